// Records are there whole or not at all; whatever else lies in the folder is told apart.
#include "runtime/record_store.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>

#include <sys/resource.h>
#include <signal.h>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/refused.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

State some_state(int64_t n = 5) {
  State state;
  state.put("x", at::rand({n, 3}));
  state.put_integers("n", {7});
  return state;
}

}  // namespace

TEST_CASE("a record comes back in another process") {
  const TemporaryFolder folder;
  const State state = some_state();
  {
    RecordStore store(folder.path());
    CHECK(store.names().empty());
    store.save("a", state);
    store.save("b", some_state());
    store.save("b", state);  // replaces
  }
  RecordStore store(folder.path());
  CHECK(store.names() == std::set<std::string>{"a", "b"});
  const State back = store.load("b");
  CHECK(at::equal(back.get("x", {5, 3}, at::kFloat), state.tensors().at("x")));
  CHECK(back.integers("n", 1)[0] == 7);
  store.erase("a");
  CHECK(store.names() == std::set<std::string>{"b"});
  CHECK(folder.names().size() == 2);
}

TEST_CASE("data without its marker is no record") {
  const TemporaryFolder folder;
  RecordStore(folder.path()).save("a", some_state());
  std::filesystem::remove(folder / "a.done");
  CHECK(RecordStore(folder.path()).names().empty());
}

TEST_CASE("every byte that changes is noticed") {
  const TemporaryFolder folder;
  RecordStore(folder.path()).save("a", some_state(2));
  const std::string data = read_bytes(folder / "a.safetensors"), marker = read_bytes(folder / "a.done");
  const RecordStore store(folder.path());
  for (size_t i = 0; i < data.size(); ++i) {
    std::string bytes = data;
    bytes[i] = static_cast<char>(bytes[i] ^ 1);
    write_bytes(folder / "a.safetensors", bytes);
    CHECK_THAT(refused([&] { store.load("a"); }), ContainsSubstring("CRC-32"));
  }
  for (size_t size = 0; size < data.size(); ++size) {
    write_bytes(folder / "a.safetensors", data.substr(0, size));
    CHECK_THAT(refused([&] { store.check("a"); }), ContainsSubstring("bytes"));
  }
  write_bytes(folder / "a.safetensors", data + "x");
  CHECK_THAT(refused([&] { store.check("a"); }), ContainsSubstring("bytes"));
  write_bytes(folder / "a.safetensors", data);
  CHECK(refused([&] { store.check("a"); }).empty());

  for (const std::string broken :
       {std::string(), marker.substr(0, marker.size() / 2), std::string("[]"), std::string("{}"), std::string(R"({"bytes": -1, "crc32": 0})"),
        std::string(R"({"bytes": 1.5, "crc32": 0})"), std::string(R"({"bytes": "1", "crc32": 0})"),
        std::string(R"({"bytes": 1, "crc32": 0, "more": 1})"), std::string(100000, '['), std::string(3 << 20, ' ')}) {
    write_bytes(folder / "a.done", broken);
    CHECK_THAT(refused([&] { store.load("a"); }), ContainsSubstring("a.done"));
  }
  std::filesystem::remove(folder / "a.safetensors");
  write_bytes(folder / "a.done", marker);
  CHECK_THAT(refused([&] { store.load("a"); }), ContainsSubstring("a.safetensors"));
}

TEST_CASE("a marker that fits a file which is no safetensors does not help it") {
  const TemporaryFolder folder;
  RecordStore(folder.path()).save("a", some_state());
  // The CRC-32 of nine known bytes is 0xcbf43926, the check value of every table.
  write_bytes(folder / "a.safetensors", "123456789");
  write_bytes(folder / "a.done", R"({"bytes": 9, "crc32": 3421780262})");
  const RecordStore store(folder.path());
  CHECK(refused([&] { store.check("a"); }).empty());
  CHECK_THAT(refused([&] { store.load("a"); }), ContainsSubstring("a.safetensors"));
}

TEST_CASE("a full disk leaves the records that were there") {
  const TemporaryFolder folder;
  RecordStore store(folder.path());
  store.save("a", some_state());
  void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{2000, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = refused([&] { store.save("b", some_state(1000)); });
  setrlimit(RLIMIT_FSIZE, &old);
  signal(SIGXFSZ, before);
  CHECK_THAT(message, ContainsSubstring("b.safetensors") && ContainsSubstring("File too large"));
  const RecordStore again(folder.path());
  CHECK(again.names() == std::set<std::string>{"a"});
  CHECK(refused([&] { again.load("a"); }).empty());
  CHECK(folder.names().size() == 2);
}

TEST_CASE("files are told apart by their names") {
  CHECK(RecordStore::record_of("chunk_000_001.done") == "chunk_000_001");
  CHECK(RecordStore::record_of("chunk_000_001.safetensors") == "chunk_000_001");
  CHECK(RecordStore::record_of("video.mp4").empty());
  CHECK(RecordStore::is_leftover("a.safetensors.123.part"));
  CHECK(RecordStore::is_leftover("a.done.part-0123abcd"));
  CHECK_FALSE(RecordStore::is_leftover("a.done"));
}
