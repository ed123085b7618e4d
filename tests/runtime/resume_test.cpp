// Runs that end between two rows and go on from their folder, to the same bits; and folders that are not what they say.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "runtime/generate.h"
#include "runtime/policies.h"
#include "runtime/run_folder.h"
#include "tests/catch.h"
#include "tests/forged_state.h"
#include "tests/refused.h"
#include "tests/runtime/resumed_run.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using namespace longtake::test::resume;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

// Stops behind every row, or every third, resumes, and expects the bits of the uninterrupted run.
void check_rows(const World& world, int every) {
  const Output whole = world.run(nullptr);
  REQUIRE(whole.frames.size(1) == world.settings.plan.request.frames);
  for (int stop = 1; stop < whole.rows; stop += every) {
    INFO("stopped after row " << stop << " of " << whole.rows);
    const TemporaryFolder folder;
    int first = 0;
    {
      const auto run = RunFolder::create(folder / "x.run", some_record());
      first = world.run(run.get(), stop).rows;
    }
    const auto run = RunFolder::open(folder / "x.run", RunFolder::Access::write);
    const Output rest = world.run(run.get());
    check_equal(whole, rest);
    CHECK(first == stop);
    if (world.settings.checkpoint_bytes > 0) CHECK(first + rest.rows == whole.rows);  // nothing is computed twice
  }
}

}  // namespace

TEST_CASE("decoding ahead and keeping a folder change no bit") {
  World world;
  world.settings.history = GENERATE(History::reencode, History::carry);
  world.settings.decode_latents = GENERATE(1, 3);
  const Output plain = world.run(nullptr);
  world.settings.decode_ahead = true;
  check_equal(plain, world.run(nullptr));
  const TemporaryFolder folder;
  check_equal(plain, world.run(RunFolder::create(folder / "x.run", some_record()).get()));
}

TEST_CASE("a run stopped behind any row goes on to the same bits") {
  World world;
  int every = 2;
  SECTION("causal") { world.settings.decode_ahead = true; }
  SECTION("none") { world.policy = "none"; }
  SECTION("motioncache") {
    world.policy = "motioncache:slow,warmup=0,phase1=1,threshold=0.3,min_ratio=0.1";
    every = 1;
  }
  SECTION("driftcache") { world.policy = "driftcache:warmup=1,threshold=0.3,distance=linear"; }
  SECTION("driftcache by token") { world.policy = "driftcache:warmup=1,threshold=0.3,unit=token,rest=reuse,min_ratio=0,distance=linear"; }
  SECTION("predict") { world.policy = "predict:warmup=0,phase1=1,threshold=0.3,min_ratio=0.1,limit=2"; }
  SECTION("flowcache") { world.policy = "flowcache:warmup=0,threshold=0.3"; }
  SECTION("teacache") { world.policy = "teacache:base=causal,ret=1,threshold=0.3"; }
  SECTION("teacache over the window") { world.policy = "teacache:ret=1,threshold=0.3"; }
  SECTION("carried history") {
    world.settings.history = History::carry;
    world.policy = "motioncache:slow,warmup=0,phase1=1,threshold=0.3,min_ratio=0.1";
  }
  SECTION("windows only") { world.settings.checkpoint_bytes = 0; }
  SECTION("all chunks together") { world.settings.ar_step = 0; }
  SECTION("three windows and an overlap of whole chunks") {
    world.settings.plan = plan_windows({.frames = 25, .window_frames = 17, .overlap_frames = 13, .chunk = 2});
    CHECK(world.settings.plan.windows.size() == 3);
  }
  check_rows(world, every);
}

TEST_CASE("compressed keys and values go on within a window to the same bits") {
  World world;
  // Windows of seven chunks, so that there are finished ones to forget.
  world.settings.plan = plan_windows({.frames = 37, .window_frames = 25, .overlap_frames = 9, .chunk = 1});
  world.settings.history = History::carry;
  world.kv = GENERATE("stream:0", "stream:1", "r1kv:budget=0.5", "r1kv:budget=1,queries=all,per_head=off", "merge:d=1.2");
  world.policy = GENERATE("causal", "motioncache:slow,warmup=0,phase1=1,threshold=0.3,min_ratio=0.1", "flowcache:warmup=0,threshold=0.3",
                          "driftcache:warmup=1,threshold=0.3,distance=linear", "predict:warmup=0,phase1=1,threshold=0.3,min_ratio=0.1,limit=2",
                          "teacache:base=causal,ret=1,threshold=0.3");
  INFO(world.kv << " " << world.policy);
  const Output full = [&] {
    World other;
    other.settings.plan = world.settings.plan;
    other.settings.history = world.settings.history;
    other.policy = world.policy;
    return other.run(nullptr);
  }();
  CHECK(world.run(nullptr).stats.mean_kv_bytes() < full.stats.mean_kv_bytes());
  check_rows(world, world.policy == "causal" ? 1 : 4);
}

TEST_CASE("a state whose compressed keys do not fit the window is refused") {
  World world;
  world.settings.plan = plan_windows({.frames = 25, .window_frames = 25, .overlap_frames = 0, .chunk = 1});
  world.kv = "merge:d=1.2";
  const TemporaryFolder folder;
  {
    const auto run = RunFolder::create(folder / "x.run", some_record());
    world.run(run.get(), 5);
  }
  const auto with = [&](const std::string& entry, const std::optional<std::vector<int64_t>>& values) {
    fs::remove_all(folder / "bad.run");
    fs::copy(folder / "x.run", folder / "bad.run", fs::copy_options::recursive);
    const auto run = RunFolder::open(folder / "bad.run", RunFolder::Access::write);
    run->attach(run_layout(world.settings));
    const State saved = *run->state(0);
    State changed;
    for (const auto& [name, tensor] : saved.tensors())
      if (name != entry) changed.put(name, tensor);
    if (values) changed.put_integers(entry, *values);
    run->save_state(0, 4, changed);
    return refused([&] { world.run(run.get()); });
  };
  CHECK_THAT(with("kv/0/0/held", std::nullopt), ContainsSubstring("'kv/0/0/held' is missing"));
  CHECK_THAT(with("kv/0/0/held", std::vector<int64_t>{-1, 4}), ContainsSubstring("'kv/0/0/held' should be a range of 28 tokens, found [-1, 4)"));
  CHECK_THAT(with("kv/0/0/held", std::vector<int64_t>{0, 29}), ContainsSubstring("found [0, 29)"));
  CHECK_THAT(with("kv/0/1/held", std::vector<int64_t>{4, 8}), ContainsSubstring("'kv/0/1/bias' should be Float [4]"));
  CHECK_THAT(with("kv/0/1/last", std::vector<int64_t>{0, 1, 2, 1000}), ContainsSubstring("'kv/0/1/last' should name rows below"));
  CHECK_THAT(with("kv/0/1/count", std::nullopt), ContainsSubstring("'kv/0/1/count' is missing"));
  CHECK_THAT(with("kv/9/0/held", std::vector<int64_t>{0, 1}), ContainsSubstring("'kv/9/0/held' is not known here"));
}

TEST_CASE("records with right checksums and wrong entries are refused by name") {
  World world;
  world.parity = true;
  world.settings.plan = plan_windows({.frames = 25, .window_frames = 17, .overlap_frames = 9, .chunk = 1, .whole_chunks = true});
  world.policy = "motioncache:slow,warmup=0,phase1=0,threshold=0.3,min_ratio=0";
  const TemporaryFolder folder;
  const fs::path path = folder / "x.run";
  const auto whole = world.run(nullptr);
  {
    const auto run = RunFolder::create(path, some_record());
    world.run(run.get(), whole.rows - 2);
  }
  const auto with = [&](const std::string& record, const State& state) {
    RecordStore(path).save(record, state);
    const auto run = RunFolder::open(path, RunFolder::Access::write);
    return refused([&] { world.run(run.get()); });
  };
  RecordStore store(path);
  const State window = store.load("window_000");
  CHECK(window.contains("policy/last_frames"));
  CHECK(window.contains("noise/drawn"));
  for (const Forgery& forged : forgeries(window)) {
    INFO(forged.entry << " with " << forged.how);
    CHECK_THAT(with("window_000", forged.state), ContainsSubstring("window_000.safetensors: '"));
  }
  store.save("window_000", window);
  std::string name;
  for (const std::string& record : store.names())
    if (record.starts_with("state_001_")) name = record;
  REQUIRE_FALSE(name.empty());
  const State saved = store.load(name);
  State other;
  for (const auto& [entry, tensor] : saved.tensors()) other.put(entry, entry == "row" ? tensor - 1 : tensor);
  CHECK_THAT(with(name, other), ContainsSubstring(name + ".safetensors: 'row' should be"));
}

TEST_CASE("parity noise, which is drawn in order, goes on where it stood") {
  World world;
  world.parity = true;
  world.settings.plan = plan_windows({.frames = 25, .window_frames = 17, .overlap_frames = 9, .chunk = 1, .whole_chunks = true});
  world.policy = "motioncache:slow,warmup=0,phase1=1,threshold=0.3,min_ratio=0.1";
  check_rows(world, 2);
}

TEST_CASE("a state that does not fit the budget is announced, and the window starts again") {
  World world;
  world.settings.checkpoint_bytes = 1000;
  const TemporaryFolder folder;
  const auto run = RunFolder::create(folder / "x.run", some_record());
  const Output out = world.run(run.get());
  REQUIRE(out.notes.size() == 1);
  CHECK_THAT(out.notes[0], ContainsSubstring("--checkpoint-budget") && ContainsSubstring("starts the window again"));
}

TEST_CASE("states are written at finished chunks while that takes a small share of the time") {
  World world;
  const auto states = [&](double share) {
    world.settings.checkpoint_share = share;
    const TemporaryFolder folder;
    const auto run = RunFolder::create(folder / "x.run", some_record());
    try {
      world.run(run.get(), std::nullopt, [&](int rows) {
        if (rows == 4) throw std::runtime_error("killed");  // two chunks of the first window are finished
      });
    } catch (const std::runtime_error&) {
    }
    int count = 0;
    for (const auto& entry : fs::directory_iterator(folder / "x.run")) count += entry.path().filename().string().starts_with("state_");
    return count;
  };
  CHECK(states(1e9) == 2);  // data and marker of the newest
  CHECK(states(0) == 0);
}

TEST_CASE("a folder in use is refused, and one that is left is free") {
  const TemporaryFolder folder;
  const fs::path path = folder / "x.run";
  auto run = RunFolder::create(path, some_record());
  CHECK_THAT(refused([&] { RunFolder::open(path, RunFolder::Access::write); }), ContainsSubstring("in use by another longtake"));
  CHECK_THAT(refused([&] { RunFolder::remove(path); }), ContainsSubstring("in use"));
  RunFolder::open(path, RunFolder::Access::read);  // decode looks into runs that go on
  run.reset();
  RunFolder::open(path, RunFolder::Access::write)->remove();
  CHECK(folder.names().empty());
}

TEST_CASE("a finished run that is gone on with is no longer finished") {
  const TemporaryFolder folder;
  const fs::path path = folder / "x.run";
  RunFolder::create(path, some_record())->mark_finished();
  RunFolder::open(path, RunFolder::Access::read);
  CHECK(RunFolder::is_finished(path));
  RunFolder::open(path, RunFolder::Access::write);
  CHECK_FALSE(RunFolder::is_finished(path));
}

TEST_CASE("damaged folders are refused with what is wrong") {
  const World world;
  const TemporaryFolder folder;
  const fs::path good = folder / "good.run", bad = folder / "bad.run";
  {
    const auto run = RunFolder::create(good, some_record());
    world.run(run.get(), 7);  // into the second window
  }
  const auto message = [&](const std::function<void()>& damage) {
    fs::remove_all(bad);
    fs::copy(good, bad, fs::copy_options::recursive);
    damage();
    return refused([&] { RunFolder::open(bad, RunFolder::Access::write)->attach(run_layout(world.settings)); });
  };
  const auto erase = [&](const std::string& record) {
    fs::remove(bad / (record + ".done"));
    fs::remove(bad / (record + ".safetensors"));
  };
  const auto copy = [&](const std::string& from, const std::string& to) {
    for (const char* end : {".done", ".safetensors"}) fs::copy(bad / (from + end), bad / (to + end), fs::copy_options::overwrite_existing);
  };
  REQUIRE(message([] {}).empty());
  REQUIRE(fs::exists(good / "window_000.done"));
  REQUIRE(fs::exists(good / "prefix_001.done"));

  // run.json
  CHECK_THAT(message([&] { fs::remove(bad / "run.json"); }), ContainsSubstring("run.json"));
  for (const std::string text : {"", "[]", "{}", "{\"format\": 2}", "nothing", "{\"format\": 99}"})
    CHECK_THAT(message([&] { write_bytes(bad / "run.json", text); }), ContainsSubstring("run.json"));
  const auto edited = [&](const std::function<void(nlohmann::json&)>& edit) {
    return message([&] {
      auto json = nlohmann::json::parse(read_bytes(bad / "run.json"));
      edit(json);
      write_bytes(bad / "run.json", json.dump());
    });
  };
  CHECK_THAT(edited([](auto& j) { j["more"] = 1; }), ContainsSubstring("unknown key 'more'"));
  CHECK_THAT(edited([](auto& j) { j["format"] = 3; }), ContainsSubstring("expected format 2"));
  CHECK_THAT(edited([](auto& j) { j["format"] = 1; }), ContainsSubstring("earlier longtake"));
  CHECK_THAT(edited([](auto& j) { j["options"].erase("sampling.steps"); }), ContainsSubstring("sampling.steps is missing"));
  CHECK_THAT(edited([](auto& j) { j["options"]["sampling.stepz"] = "1"; }), ContainsSubstring("sampling.stepz"));
  CHECK_THAT(edited([](auto& j) { j["options"]["sampling.steps"] = 5; }), ContainsSubstring("sampling.steps"));
  CHECK_THAT(edited([](auto& j) { j["model"] = "x"; }), ContainsSubstring("'model' should be an object"));
  CHECK_THAT(edited([](auto& j) { j["options"]["seed"] = "6"; }), ContainsSubstring("damaged or was edited"));
  CHECK_THAT(edited([](auto& j) { j.erase("crc32"); }), ContainsSubstring("damaged or was edited"));

  // files of others
  CHECK_THAT(message([&] { write_bytes(bad / "notes.txt", "x"); }), ContainsSubstring("notes.txt does not belong"));
  CHECK_THAT(message([&] { fs::create_directory(bad / "chunk_000_000.done.d"); }), ContainsSubstring("does not belong"));
  CHECK_THAT(message([&] { write_bytes(bad / "chunk_0_0.done", "x"); }), ContainsSubstring("chunk_0_0.done does not belong"));
  CHECK_THAT(message([&] { write_bytes(bad / "chunk_000_-01.done", "x"); }), ContainsSubstring("does not belong"));
  CHECK_THAT(message([&] { write_bytes(bad / "chunk_000_99999999999999999999.done", "x"); }), ContainsSubstring("does not belong"));
  CHECK_THAT(message([&] {
               fs::remove(bad / "chunk_000_000.done");
               fs::create_symlink(good / "chunk_000_000.done", bad / "chunk_000_000.done");
             }),
             ContainsSubstring("does not belong"));

  // records that are missing, too many, or those of another place
  CHECK_THAT(message([&] { erase("chunk_000_001"); }), ContainsSubstring("chunk 2 where 1 is expected"));
  CHECK_THAT(message([&] { erase("chunk_000_002"); }), ContainsSubstring("marked as finished"));
  CHECK_THAT(message([&] { erase("window_000"); }), ContainsSubstring("window 1 has no prefix of its own yet"));
  CHECK_THAT(message([&] { erase("prefix_001"); }), ContainsSubstring("prefix of window 1 is missing"));
  CHECK_THAT(message([&] { copy("chunk_000_000", "chunk_005_000"); }), ContainsSubstring("chunk 0 of window 5"));
  CHECK_THAT(message([&] { copy("chunk_000_000", "chunk_000_009"); }), ContainsSubstring("chunk 9"));
  CHECK_THAT(message([&] { copy("window_000", "window_002"); }), ContainsSubstring("window 1 is missing"));
  CHECK_THAT(message([&] { copy("prefix_001", "prefix_000"); }), ContainsSubstring("window 0 has no prefix"));
  CHECK_THAT(message([&] { copy("chunk_000_000", "chunk_000_002"); }), ContainsSubstring("'latents' should be Float [16, 1, 4, 4]"));
  CHECK_THAT(message([&] { copy("window_000", "chunk_000_001"); }), ContainsSubstring("chunk_000_001.safetensors: 'latents' is missing"));
  std::string state;
  for (const auto& entry : fs::directory_iterator(good))
    if (const std::string name = entry.path().filename(); name.starts_with("state_") && name.ends_with(".done")) state = name.substr(0, name.size() - 5);
  REQUIRE_FALSE(state.empty());
  CHECK_THAT(message([&] { copy(state, "state_001_9999"); }), ContainsSubstring("row 9999"));
  CHECK_THAT(message([&] { copy(state, "state_002_0001"); }), ContainsSubstring("state of window 2"));
  // Every record, cut and edited.
  for (const auto& entry : fs::directory_iterator(good)) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".safetensors")) continue;
    INFO(name);
    CHECK_THAT(message([&] { fs::resize_file(bad / name, fs::file_size(bad / name) - 1); }), ContainsSubstring(name));
    CHECK_THAT(message([&] {
                 std::string bytes = read_bytes(bad / name);
                 bytes[bytes.size() / 2] ^= 4;
                 write_bytes(bad / name, bytes);
               }),
               ContainsSubstring(name));
  }
}

TEST_CASE("chunks of a window that is begun again never leave a gap") {
  World world;
  world.settings.plan = plan_windows({.frames = 25, .window_frames = 25, .overlap_frames = 0, .chunk = 1});
  world.settings.checkpoint_bytes = 0;
  const TemporaryFolder folder;
  const fs::path path = folder / "x.run";
  {
    const auto run = RunFolder::create(path, some_record());
    world.run(run.get(), 5);
  }
  REQUIRE(fs::exists(path / "chunk_000_002.done"));
  const auto run = RunFolder::open(path, RunFolder::Access::write);
  run->attach(run_layout(world.settings));
  const at::Tensor first = run->chunk(0, 0), second = run->chunk(0, 1);
  const auto written = [&](const std::string& name) { return fs::last_write_time(path / name); };
  const auto before = written("chunk_000_000.done");
  run->save_chunk(0, 0, first);
  CHECK(written("chunk_000_000.done") == before);  // not written again: at no time is it missing
  CHECK(run->attach(run_layout(world.settings)).chunks == 3);
  run->save_chunk(0, 1, second + 1);
  CHECK(at::equal(run->chunk(0, 1), second + 1));
  CHECK(run->attach(run_layout(world.settings)).chunks == 2);  // the one behind it belonged to other values
  CHECK_FALSE(fs::exists(path / "chunk_000_002.safetensors"));
}

TEST_CASE("a state of other shape is refused before anything is computed") {
  World world;
  const TemporaryFolder folder;
  {
    const auto run = RunFolder::create(folder / "x.run", some_record());
    world.run(run.get(), 3);
    State state;
    state.put_integers("row", {2});
    state.put("latents", at::zeros({16, 5, 4, 5}));
    run->save_state(0, 2, state);
  }
  const auto run = RunFolder::open(folder / "x.run", RunFolder::Access::write);
  CHECK_THAT(refused([&] { world.run(run.get()); }), ContainsSubstring("'latents' should be Float [16, 5, 4, 4]"));
}

TEST_CASE("what an interrupted writer left is cleared away") {
  const World world;
  const TemporaryFolder folder;
  const fs::path path = folder / "x.run";
  const Output whole = world.run(nullptr);
  {
    const auto run = RunFolder::create(path, some_record());
    world.run(run.get(), 6);
  }
  write_bytes(path / "chunk_000_003.safetensors.77.part", "half");
  write_bytes(path / "run.json.part-00ff00ff", "half");
  write_bytes(path / "state_000_0099.safetensors", "no marker");
  const auto run = RunFolder::open(path, RunFolder::Access::write);
  check_equal(whole, world.run(run.get()));
  for (const auto& entry : fs::directory_iterator(path)) {
    CHECK_FALSE(RecordStore::is_leftover(entry.path().filename()));
    CHECK(entry.path().filename() != "state_000_0099.safetensors");
  }
}
