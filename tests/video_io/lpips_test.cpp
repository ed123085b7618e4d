#include "video_io/lpips.h"

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

#include <ATen/TensorOperators.h>
#include <torch/csrc/jit/api/module.h>

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

// A TorchScript module with this forward(a, b).
std::filesystem::path save_module(const TemporaryFolder& folder, const std::string& name, const std::string& body) {
  torch::jit::Module module("m");
  module.define("def forward(self, a, b):\n" + body);
  module.save((folder / name).string());
  return folder / name;
}

std::string error_of(const std::filesystem::path& path, ExitCode code) {
  try {
    const Lpips lpips(path, at::kCPU);
    lpips.distance(smooth_clip(3, 16, 24), smooth_clip(3, 16, 24));
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a module gives one distance a frame, whether it returns numbers or maps") {
  const TemporaryFolder folder;
  const at::Tensor a = smooth_clip(37, 16, 24), b = (a.to(at::kInt) / 2).to(at::kByte);
  for (const char* body : {"    return (a - b).abs().mean([1, 2, 3])\n",
                           "    return (a - b).abs().mean([1, 2, 3], True)\n", "    return (a - b).abs()\n"}) {
    const Lpips lpips(save_module(folder, "m.pt", body), at::kCPU);
    CHECK(lpips.name() == "m.pt");
    const std::vector<double> distance = lpips.distance(a, b);
    REQUIRE(distance.size() == 37);
    for (int t = 0; t < 37; ++t) {
      const double expected = ((a[t].to(at::kDouble) - b[t].to(at::kDouble)) / 127.5).abs().mean().item<double>();
      CHECK(std::abs(distance[t] - expected) < 1e-5);
    }
  }
}

TEST_CASE("the module sees values from -1 to 1, colour planes first") {
  const TemporaryFolder folder;
  const Lpips lpips(
      save_module(
          folder, "m.pt",
          "    return a[:, 0].min().reshape([1]).expand([a.size(0)]) + 10 * (a.size(1) - 3) + 10 * (a.size(3) - 24)\n"),
      at::kCPU);
  at::Tensor clip = smooth_clip(2, 16, 24);
  clip.select(3, 0).fill_(0);
  for (const double value : lpips.distance(clip, clip)) CHECK(value == -1);
}

TEST_CASE("files that are no such module are refused") {
  const TemporaryFolder folder;
  CHECK_THAT(error_of(folder / "missing.pt", ExitCode::bad_file), ContainsSubstring("does not exist"));
  write_bytes(folder / "text.pt", "not a module");
  CHECK_THAT(error_of(folder / "text.pt", ExitCode::bad_file), ContainsSubstring("TorchScript"));
  std::string cut = read_bytes(save_module(folder, "m.pt", "    return a.mean([1, 2, 3])\n"));
  write_bytes(folder / "cut.pt", cut.substr(0, cut.size() / 2));
  CHECK_THAT(error_of(folder / "cut.pt", ExitCode::bad_file), ContainsSubstring("TorchScript"));
  CHECK_THAT(error_of(save_module(folder, "raises.pt", "    return a.reshape([7])\n"), ExitCode::bad_file),
             ContainsSubstring("must take two"));
  CHECK_THAT(error_of(save_module(folder, "scalar.pt", "    return (a - b).mean()\n"), ExitCode::bad_file),
             ContainsSubstring("1 numbers for 3 pictures"));
  CHECK_THAT(error_of(save_module(folder, "list.pt", "    return [a, b]\n"), ExitCode::bad_file),
             ContainsSubstring("must take two"));
  CHECK_THAT(error_of(save_module(folder, "nan.pt", "    return a.mean([1, 2, 3]) / 0.0 - b.mean([1, 2, 3]) / 0.0\n"),
                      ExitCode::numerical),
             ContainsSubstring("not finite"));
}
