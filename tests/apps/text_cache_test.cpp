// Encoded prompts that are kept between runs, end to end.
#include <ATen/ops/equal.h>

#include "models/weights/checkpoint.h"
#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/models/magi_folder.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

TEST_CASE("a second run takes its prompts from the cache, to the same bits, and damaged entries are made again") {
  const TemporaryFolder folder;
  const fs::path cache = folder / "cache", texts = cache / "longtake" / "texts", first = folder / "a.safetensors", second = folder / "b.safetensors";
  const auto files = [&] {
    std::vector<fs::path> all;
    for (const auto& entry : fs::directory_iterator(texts)) all.push_back(entry.path());
    return all;
  };
  const auto run = [&](const fs::path& out, const std::vector<std::string>& more) {
    const ProgramResult result = run_longtake(quick_generate(out, more), {std::nullopt, cache});
    INFO(result.err);
    REQUIRE(result.status == 0);
    return result.err;
  };
  const auto same = [&] { return at::equal(Checkpoint::open(first).tensor("frames"), Checkpoint::open(second).tensor("frames")); };
  run(first, {"--text-cache", "off"});
  CHECK_FALSE(fs::exists(texts));
  run(second, {});
  CHECK(same());
  CHECK(files().size() == 2);  // prompt and negative prompt
  run(second, {});
  CHECK(same());
  run(second, {"--dtype", "bf16"});  // another precision is another entry
  CHECK(files().size() == 4);
  for (const fs::path& file : files()) write_bytes(file, read_bytes(file).substr(0, 3000));
  CHECK_THAT(run(second, {}), ContainsSubstring("is ignored and made again"));
  CHECK(same());
  CHECK_THAT(run(second, {}), !ContainsSubstring("is ignored"));
}

TEST_CASE("MAGI-1's captions come from the cache too, to the same bits") {
  const TemporaryFolder folder;
  const test::MagiFolder model(/*distilled=*/true);
  const fs::path cache = folder / "cache", texts = cache / "longtake" / "texts", first = folder / "a.safetensors", second = folder / "b.safetensors";
  const auto run = [&](const fs::path& out, const std::vector<std::string>& more, const std::string& prompt = "a red circle over grass") {
    std::vector<std::string> arguments = {"generate", "-m", model.path(), "-p", prompt, "-o", out, "--seed", "1", "--dtype", "fp32", "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = run_longtake(arguments, {std::nullopt, cache});
    INFO(result.err);
    REQUIRE(result.status == 0);
    return result.err;
  };
  const auto frames = [](const fs::path& file) { return Checkpoint::open(file).tensor("frames").clone(); };
  const auto entries = [&] { return std::distance(fs::directory_iterator(texts), fs::directory_iterator()); };
  run(first, {"--text-cache", "off"});
  CHECK_FALSE(fs::exists(texts));
  const at::Tensor encoded = frames(first);
  for (int i = 0; i < 2; ++i) {  // the first one fills the cache
    run(second, {});
    CHECK(at::equal(frames(second), encoded));
    CHECK(entries() == 1);
  }
  run(second, {"--dtype", "bf16"});  // of the transformer; captions are in float32 all the same
  CHECK(entries() == 1);
  run(second, {}, "a blue star");
  CHECK(entries() == 2);
  CHECK_FALSE(at::equal(frames(second), encoded));
  // What is in the cache is what is used.
  const std::string long_prompt = [] {
    std::string text;
    for (int i = 0; i < 100; ++i) text += "boat ";
    return text;
  }();
  for (int i = 0; i < 2; ++i) CHECK_THAT(run(second, {}, long_prompt), ContainsSubstring("longer than the"));
}
