// Encoded texts on disk: found again where all agrees, ignored where anything is wrong, bounded.
#include "runtime/text_cache.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include <fstream>
#include <random>

#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
namespace fs = std::filesystem;

namespace {

EncodedText encoding(int64_t length, at::ScalarType dtype = at::kFloat) { return {at::randn({length, 6}).to(dtype), 3, true}; }

fs::path only_file(const fs::path& folder) {
  fs::path found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    CHECK(found.empty());
    found = entry.path();
  }
  return found;
}

struct Notes {
  std::vector<std::string> all;
  std::function<void(const std::string&)> take() {
    return [this](const std::string& note) { all.push_back(note); };
  }
};

}  // namespace

TEST_CASE("a text is found with the same bits, by its own encoder alone") {
  const TemporaryFolder folder;
  Notes notes;
  TextCache cache(folder.path() / "new" / "texts", "encoder 1", notes.take());
  CHECK_FALSE(cache.find("a boat", 4, at::kFloat));
  const EncodedText made = encoding(4);
  cache.store("a boat", made);
  cache.store("", encoding(4));
  const auto found = cache.find("a boat", 4, at::kFloat);
  REQUIRE(found);
  CHECK(at::equal(found->context, made.context));
  CHECK((found->tokens == 3 && found->truncated));
  CHECK(cache.find("", 4, at::kFloat));
  CHECK_FALSE(cache.find("a boat ", 4, at::kFloat));
  CHECK_FALSE(TextCache(folder.path() / "new" / "texts", "encoder 2", notes.take()).find("a boat", 4, at::kFloat));
  CHECK(notes.all.empty());
}

TEST_CASE("encodings of as many rows as tokens are found without their number, others are not") {
  const TemporaryFolder folder;
  Notes notes;
  TextCache cache(folder.path(), "encoder", notes.take());
  const EncodedText caption{at::randn({5, 6}), 5, false};
  cache.store("a boat", caption);
  cache.store("padded", encoding(5));  // 3 tokens
  const auto found = cache.find("a boat", {}, at::kFloat);
  REQUIRE(found);
  CHECK(at::equal(found->context, caption.context));
  CHECK((found->tokens == 5 && !found->truncated));
  CHECK(cache.find("a boat", 5, at::kFloat));
  CHECK(notes.all.empty());
  CHECK_FALSE(cache.find("a boat", 4, at::kFloat));
  CHECK_FALSE(cache.find("padded", {}, at::kFloat));
  CHECK(notes.all.size() == 1);
}

TEST_CASE("an entry with any byte changed gives its own bits or none") {
  const TemporaryFolder folder;
  TextCache(folder.path(), "encoder", nullptr).store("a boat", encoding(4, at::kBFloat16));
  const fs::path file = only_file(folder.path());
  std::ifstream in(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const auto whole = TextCache(folder.path(), "encoder", nullptr).find("a boat", 4, at::kBFloat16);
  REQUIRE(whole);
  const auto check = [&](const std::string& changed) {
    std::ofstream(file, std::ios::binary) << changed;
    Notes notes;
    const auto found = TextCache(folder.path(), "encoder", notes.take()).find("a boat", 4, at::kBFloat16);
    if (found) CHECK(at::equal(found->context, whole->context));
    return found.has_value();
  };
  std::mt19937 random(1);
  int refused = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ (1 + random() % 255));
    refused += !check(changed);
  }
  CHECK(refused > static_cast<int>(bytes.size() / 2));
  for (size_t n = 0; n < bytes.size(); n += 7) CHECK_FALSE(check(bytes.substr(0, n)));
  CHECK(check(bytes));
  Notes notes;
  std::ofstream(file, std::ios::binary) << "hello";
  TextCache cache(folder.path(), "encoder", notes.take());
  CHECK_FALSE(cache.find("a boat", 4, at::kBFloat16));
  REQUIRE(notes.all.size() == 1);
  CHECK_THAT(notes.all[0], Catch::Matchers::ContainsSubstring("is ignored and made again"));
  cache.store("a boat", encoding(4, at::kBFloat16));
  CHECK(cache.find("a boat", 4, at::kBFloat16));
}

TEST_CASE("the folder stays within its bound, and other files in it are left alone") {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "mine.txt") << "x";
  TextCache cache(folder.path(), "encoder", nullptr, 8000);
  cache.store("kept", encoding(40));
  for (int i = 0; i < 30; ++i) {
    cache.store(fmt::format("text {}", i), encoding(40));
    CHECK(cache.find("kept", 40, at::kFloat));  // used all the time
  }
  uintmax_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder.path())) bytes += entry.file_size();
  CHECK(bytes <= 8001);
  CHECK(fs::exists(folder.path() / "mine.txt"));
  CHECK_FALSE(cache.find("text 0", 40, at::kFloat));
  cache.store("too large", encoding(4000));
  CHECK_FALSE(cache.find("too large", 4000, at::kFloat));
}

TEST_CASE("a folder that takes nothing is said once, and nothing else happens") {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  Notes notes;
  TextCache cache(folder.path() / "file" / "texts", "encoder", notes.take());
  cache.store("a boat", encoding(4));
  cache.store("a ship", encoding(4));
  CHECK(notes.all.size() == 1);
}
