// What the program says to slips and broken files: one sentence, the right exit code, nothing half written.
#include <fcntl.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

// One line that says `what`, exit code `status`, and nothing written beside what was there.
void check_refused(const std::vector<std::string>& arguments, int status, const std::string& what) {
  const ProgramResult run = run_longtake(arguments);
  INFO(run.err);
  CHECK(run.status == status);
  const size_t message = run.err.rfind("longtake: ");
  REQUIRE(message != std::string::npos);
  const std::string last = run.err.substr(message);
  CHECK_THAT(last, ContainsSubstring(what));
  CHECK(std::count(last.begin(), last.end(), '\n') == 1);
}

// A copy of the demo model to break.
std::filesystem::path copy_demo(const TemporaryFolder& folder) {
  const auto copy = folder / "broken";
  std::filesystem::copy(std::filesystem::path(LONGTAKE_SOURCE_DIR) / "share/models/demo", copy, std::filesystem::copy_options::recursive);
  return copy;
}

void check_broken_model(const std::filesystem::path& model, const TemporaryFolder& folder, const std::string& what) {
  const auto out = folder / "never.mp4";
  check_refused(quick_generate(out, {"-m", model}), 3, what);
  CHECK_FALSE(std::filesystem::exists(out));
}

}  // namespace

TEST_CASE("slips on the command line are explained") {
  const TemporaryFolder folder;
  const auto out = folder / "x.mp4";
  const auto refused = [&](const std::vector<std::string>& more, const std::string& what) { check_refused(quick_generate(out, more), 2, what); };
  refused({"--stepz", "3"}, "did you mean '--steps'");
  refused({"--set", "sampling.stepz=3"}, "did you mean 'sampling.steps'");
  refused({"--steps", "many"}, "many");
  refused({"--steps", "0"}, "1");
  refused({"--frames", "18"}, "17");
  refused({"--size", "100x100"}, "16");
  refused({"--policy", "motioncahce"}, "did you mean 'motioncache'");
  refused({"--policy", "motioncache:treshold=1"}, "did you mean 'threshold'");
  refused({"-p", ""}, "prompt");
  refused({"-p", "caf\xe9"}, "UTF-8");
  refused({"-m", "dmo"}, "did you mean 'demo'");
  refused({"--device", "tpu"}, "tpu");
  refused({"-o", folder / "x.avi"}, ".mp4");
  check_refused({"genrate"}, 2, "did you mean 'generate'");
  write_bytes(folder / "config.yaml", "video:\n  framez: 17\n");
  refused({"--config", folder / "config.yaml"}, "did you mean 'video.frames'");
  write_bytes(folder / "config.yaml", "video: [1, 2\n");
  check_refused(quick_generate(out, {"--config", folder / "config.yaml"}), 3, "config.yaml line 2");
  CHECK(folder.names() == std::vector<std::string>{"config.yaml"});
}

TEST_CASE("a prompt of ten thousand words is cut, and that is said") {
  const TemporaryFolder folder;
  std::string prompt;
  for (int i = 0; i < 10000; ++i) prompt += "red circle ";
  const ProgramResult run = run_longtake(quick_generate(folder / "x.safetensors", {"-p", prompt}));
  CHECK(run.status == 0);
  CHECK_THAT(run.err, ContainsSubstring("longer than the 64 tokens"));
}

TEST_CASE("models that are none, or broken, are refused by name") {
  const TemporaryFolder folder;
  check_broken_model(folder / "nothing-here", folder, "nothing-here");
  std::filesystem::create_directory(folder / "empty");
  check_broken_model(folder / "empty", folder, "transformer");

  const auto model = copy_demo(folder);
  const auto weights = model / "transformer/diffusion_pytorch_model.safetensors";
  const std::string good = read_bytes(weights);
  const auto broken = [&](const std::string& bytes, const std::string& what) {
    write_bytes(weights, bytes);
    check_broken_model(model, folder, what);
  };
  broken(good.substr(0, good.size() / 2), "diffusion_pytorch_model.safetensors");
  broken(good.substr(0, 5), "diffusion_pytorch_model.safetensors");
  broken("", "diffusion_pytorch_model.safetensors");
  broken(std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8) + good.substr(8), "header");  // a header of 2^63 bytes
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string bytes = good;
    bytes.replace(bytes.find(from), from.size(), to);
    return bytes;
  };
  broken(replaced("blocks.3.norm2.weight", "blocks.3.norm2.weighd"), "norm2");            // a missing tensor
  broken(replaced("\"dtype\":\"BF16\",\"shape\":[256]", "\"dtype\":\"BF16\",\"shape\":[255]"), "bytes");  // a lying shape
  write_bytes(weights, good);

  write_bytes(model / "tokenizer/spiece.model", "no model");
  check_broken_model(model, folder, "spiece.model");
}

TEST_CASE("a missing shard is named") {
  const TemporaryFolder folder;
  const auto model = copy_demo(folder);
  std::filesystem::rename(model / "transformer/diffusion_pytorch_model.safetensors", model / "transformer/diffusion_pytorch_model-00001-of-00002.safetensors");
  nlohmann::json index;
  index["weight_map"]["patch_embedding.weight"] = "diffusion_pytorch_model-00001-of-00002.safetensors";
  index["weight_map"]["patch_embedding.bias"] = "diffusion_pytorch_model-00002-of-00002.safetensors";
  write_bytes(model / "transformer/diffusion_pytorch_model.safetensors.index.json", index.dump());
  check_broken_model(model, folder, "diffusion_pytorch_model-00002-of-00002.safetensors");
}

TEST_CASE("outputs that cannot be written are refused before anything is computed") {
  const TemporaryFolder folder;
  write_bytes(folder / "file", "x");
  for (const std::string out : {"no/such/folder/x.mp4", "file/x.mp4", "no/such/folder/x.safetensors"}) {
    const ProgramResult run = run_longtake(quick_generate(folder / out));
    INFO(out << ": " << run.err);
    CHECK(run.status == 3);
    CHECK_THAT(run.err, !ContainsSubstring("step"));
  }
  CHECK(folder.names() == std::vector<std::string>{"file"});
}

TEST_CASE("a disk that fills up leaves the old file, and no half of a new one") {
  const TemporaryFolder folder;
  for (const std::string name : {"x.mp4", "x.safetensors"}) {
    write_bytes(folder / name, "old");
    const ProgramResult run = run_longtake(quick_generate(folder / name, {"--set", "video.crf=0"}), {.file_bytes = 2000});
    INFO(run.err);
    CHECK(run.status == 3);
    CHECK_THAT(run.err, ContainsSubstring(name));
    CHECK(read_bytes(folder / name) == "old");
  }
  CHECK(folder.names().size() == 2);
}

TEST_CASE("files that are nothing we know are refused") {
  const TemporaryFolder folder;
  write_bytes(folder / "noise.mp4", std::string(5000, '\x5a'));
  write_bytes(folder / "short.safetensors", "abc");
  write_bytes(folder / "bad.pth", "PK\x03\x04 not a zip");
  check_refused({"inspect", folder / "noise.mp4"}, 3, "noise.mp4");
  check_refused({"inspect", folder / "short.safetensors"}, 3, "short.safetensors");
  check_refused({"inspect", folder / "bad.pth"}, 3, "bad.pth");
  check_refused({"inspect", folder / "absent.mp4"}, 3, "absent.mp4");
  check_refused({"metrics", folder / "noise.mp4", "--prompt", "a red circle"}, 3, "noise.mp4");
}

TEST_CASE("a precision that is not to be had is refused with the reason") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::vector<std::string>& more, const std::string& why) { check_refused(quick_generate(folder / "x.safetensors", more), 2, why); };
  refused({"--device", "cpu", "--dtype", "bf16", "--precision", "fp8"}, "compute capability 8.9");
  refused({"--precision", "fp8"}, "needs --dtype bf16");  // the demo model's dtype is fp32
  refused({"--precision", "bf16"}, "needs --dtype bf16");
  refused({"--precision", "int8"}, "auto, bf16, fp8");
  CHECK(run_longtake(quick_generate(folder / "x.safetensors", {"--dtype", "bf16", "--precision", "bf16"})).status == 0);
}
