// fp8 products in whole runs: on the CPU through their reference.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.h"
#include "models/weights/checkpoint.h"
#include "models/weights/safetensors.h"
#include "runtime/engine.h"
#include "runtime/memory_plan.h"
#include "tests/catch.h"
#include "tests/errors.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

GenerateOptions small_options() {
  GenerateOptions o;
  o.prompt = "a red circle moves up over grass";
  o.policy = "causal";
  o.size = {64, 64};
  o.frames = 17, o.window = 17, o.chunk = 2, o.ar_step = 1, o.steps = 4;
  o.seed = 3;
  o.device = "cpu", o.dtype = "bf16";
  return o;
}

struct Made {
  at::Tensor latents;
  std::vector<std::string> notes;
};

Made run(Engine& engine, Made made = {}) {
  const RunRequest request = make_request(small_options());
  engine.encode(request.all_texts());
  GenerateHooks hooks;
  hooks.on_note = [&](const std::string& text) { made.notes.push_back(text); };
  hooks.on_latents = [&](int, const at::Tensor& latents) { made.latents = latents.clone(); };
  engine.run(request, hooks);
  return made;
}

// A copy of the demo model with one weight that is not a number.
struct BrokenModel {
  fs::path folder;

  BrokenModel() {
    std::string pattern = (fs::temp_directory_path() / "longtake-precision-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    folder = pattern;
    fs::copy(fs::path(LONGTAKE_SOURCE_DIR) / "share/models/demo", folder, fs::copy_options::recursive);
    const fs::path file = folder / "transformer/diffusion_pytorch_model.safetensors";
    std::map<std::string, at::Tensor> tensors;
    {
      const Checkpoint checkpoint = Checkpoint::open(file);
      for (const std::string& name : checkpoint.names()) tensors[name] = checkpoint.tensor(name).clone();
    }
    tensors.at("blocks.2.ffn.net.0.proj.weight")[5][7].fill_(std::numeric_limits<float>::quiet_NaN());
    save_safetensors(file, tensors);
  }
  ~BrokenModel() { fs::remove_all(folder); }
};

}  // namespace

TEST_CASE("a run in fp8 is close to the one in bfloat16, and says nothing") {
  const ResolvedModel demo = resolve_model("demo", default_search());
  Engine plain(demo, {at::kCPU, at::kBFloat16}), fp8(demo, {at::kCPU, at::kBFloat16, true});
  const Made want = run(plain), got = run(fp8);
  CHECK(got.notes.empty());
  CHECK(fp8.target().fp8);
  CHECK(fp8.transformer().weight_bytes() < plain.transformer().weight_bytes());
  CHECK(at::isfinite(got.latents).all().item<bool>());
  const double error = test::relative_error(got.latents, want.latents);
  INFO("error " << error);
  CHECK(error > 0);
  CHECK(error < 0.3);
}

TEST_CASE("a run with offloaded blocks gives the same bits, in bfloat16 and in fp8") {
  const ResolvedModel demo = resolve_model("demo", default_search());
  for (const bool fp8 : {false, true}) {
    Engine held(demo, {at::kCPU, at::kBFloat16, fp8}), offloaded(demo, {at::kCPU, at::kBFloat16, fp8, /*offload=*/true});
    const Made want = run(held), got = run(offloaded);
    CHECK(offloaded.transformer().offloaded());
    CHECK(at::equal(got.latents, want.latents));
  }
}

TEST_CASE("fp8 is given up where the first step is not finite, with a message") {
  const BrokenModel broken;
  Engine engine(resolve_model(broken.folder.string(), default_search()), {at::kCPU, at::kBFloat16, true});
  const RunRequest request = make_request(small_options());
  engine.encode(request.all_texts());
  std::vector<std::string> notes;
  GenerateHooks hooks;
  hooks.on_note = [&](const std::string& text) { notes.push_back(text); };
  // The weight is as bad in bfloat16, which the run then says as ever.
  CHECK_THROWS_WITH(engine.run(request, hooks), ContainsSubstring("not finite in row 1"));
  REQUIRE(notes.size() == 2);
  CHECK_THAT(notes[0], ContainsSubstring("stay in bf16") && ContainsSubstring(": 1"));
  CHECK_THAT(notes[1], ContainsSubstring("loading the model again in bf16"));
  CHECK_FALSE(engine.target().fp8);
  CHECK_FALSE(engine.transformer().layer(1).self.o.in_fp8());
}

TEST_CASE("the plan of a run knows how much smaller the weights become") {
  const ResolvedModel demo = resolve_model("demo", default_search());
  ModelTarget target{at::kCUDA, at::kBFloat16};  // nothing is computed there
  const auto weights = [&] {
    PlanInput input = plan_model(demo, target, 16, /*random_weights=*/true);
    plan_request(input, make_request(small_options()));
    return plan_memory(input).denoise.weights;
  };
  const double before = weights();
  target.fp8 = true;
  Engine plain(demo, {at::kCPU, at::kBFloat16}, 1), fp8(demo, {at::kCPU, at::kBFloat16, true}, 1);
  plain.load(), fp8.load();
  const auto saved = static_cast<double>(plain.transformer().weight_bytes() - fp8.transformer().weight_bytes());
  CHECK(before - weights() == Approx(saved).epsilon(0.02));  // scales take the rest
}

TEST_CASE("a target's precision must be there") {
  GenerateOptions o = small_options();
  CHECK_FALSE(model_target(o).fp8);
  o.precision = "bf16";
  CHECK(model_target(o).dtype == at::kBFloat16);
  o.precision = "fp8";
  CHECK_THROWS_WITH(model_target(o), ContainsSubstring("compute capability 8.9"));
  o.dtype = "fp32";
  CHECK_THROWS_WITH(model_target(o), ContainsSubstring("needs --dtype bf16"));
}
