// The SkyReels-V2 transformer against the reference: full attention, one timestep for all frames, block-causal masks.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <nlohmann/json.hpp>

#include <fstream>

#include "base/cuda.h"
#include "models/skyreels/backbone.h"
#include "models/skyreels/transformer.h"
#include "tests/devices.h"
#include "tests/golden/golden.h"

using namespace longtake;

namespace {

struct Case {
  const skyreels::Transformer& transformer;
  at::Tensor x, context;
  std::vector<double> timesteps;
  skyreels::RowAttention attention{};
};

std::unique_ptr<skyreels::Transformer> load(const std::filesystem::path& folder, const golden::Target& target) {
  auto source = golden::source_of(folder / "dit.safetensors", target);
  nlohmann::json config;
  std::ifstream(folder / "config.json") >> config;
  return std::make_unique<skyreels::Transformer>(source, skyreels::TransformerConfig::from(source, config["num_heads"]));
}

// One pass over all frames in chunks of `chunk` frames, attending causally between chunks or to everything.
at::Tensor forward(const Case& c, int64_t chunk, bool causal, int fps_index) {
  WindowGeometry g;
  for (int64_t f = 0; f < c.x.size(1); f += chunk) g.chunks.push_back({f, chunk});
  g.latent_height = c.x.size(2);
  g.latent_width = c.x.size(3);
  const skyreels::TextKv text = skyreels::prepare_text(c.transformer, c.context);
  const skyreels::SkyReelsBackbone backbone(c.transformer, {&text}, g, fps_index, {}, c.attention);
  KvCache kv(backbone.kv_shape(), c.transformer.dtype(), c.transformer.device());
  std::vector<WorkItem> items;
  std::vector<at::Tensor> inputs;
  const WindowGeometry& geometry = backbone.geometry();
  for (size_t i = 0; i < g.chunks.size(); ++i) {
    const auto first = c.timesteps.begin() + g.chunks[i].first;
    const int64_t end = causal ? geometry.start(i) + geometry.chunk_tokens(i) : geometry.tokens();
    items.push_back({static_cast<int>(i), 0, TokenSet::all(), {first, first + chunk}, {0, end}});
    inputs.push_back(backbone.embed(c.x.narrow(1, g.chunks[i].first, chunk)));
  }
  const auto hidden = backbone.forward(items, inputs, kv);
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < items.size(); ++i) out.push_back(backbone.head(hidden[i], items[i].timesteps));
  return at::cat(out, 1);
}

// All five variants and the first chunk by chunk.
void check_all(const std::string& name, const Checkpoint& io, const skyreels::Transformer& transformer, const skyreels::RowAttention& attention,
               double tolerance) {
  Case c{transformer, io.tensor("fwd_x")[0], io.tensor("fwd_context")[0], {}, attention};
  const at::Tensor t = io.tensor("fwd_t")[0];
  for (int64_t i = 0; i < t.size(0); ++i) c.timesteps.push_back(t[i].item<double>());
  const int64_t frames = c.x.size(1);
  const int fps_index = io.tensor("fwd_fps_index").item<int>();
  const auto agrees = [&](const std::string& variant, const at::Tensor& value, const std::string& wanted) {
    return golden::within(fmt::format(fmt::runtime(name), variant), value, io.tensor(wanted)[0], tolerance);
  };
  CHECK(agrees("full attention", forward(c, frames, false, fps_index), "fwd_out"));
  CHECK(agrees("full attention, chunk by chunk", forward(c, 1, false, fps_index), "fwd_out"));
  CHECK(agrees("fps index 0", forward(c, frames, false, 0), "fwd_out_fps0"));
  CHECK(agrees("block-causal, 5 frames", forward(c, 5, true, fps_index), "fwd_blockcausal5_out"));
  CHECK(agrees("block-causal, 1 frame", forward(c, 1, true, fps_index), "fwd_blockcausal1_out"));
  c.timesteps.assign(frames, io.tensor("fwd_scalar_t").item<double>());
  CHECK(agrees("one timestep", forward(c, frames, false, fps_index), "fwd_scalar_out"));
}

}  // namespace

TEST_CASE("transformer forward equals the reference in all five variants") {
  const auto root = golden::skyreels();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  for (const golden::Target& target : golden::targets())
    for (const std::string set : {"a", "b"}) {
      const auto transformer = load(root / set, target);
      const Checkpoint io = Checkpoint::open(root / set / "dit_forward.safetensors");
      PlannedAttention plans(target.device);
      plans.try_out(transformer->dtype(), transformer->config().heads, transformer->config().head_width());
      const double tolerance = target.tolerance(1e-4, 3e-2);
      check_all(set + " {}" + target.name(), io, *transformer, {}, tolerance);
      transformer->merge_projections();
      check_all(set + " {} fused" + target.name(), io, *transformer, {&plans, false}, tolerance);
    }
}

// The two layers of b are its first and last, whose products stay as they are; there attention goes in fp8 in all layers, with the heads of 128 that
// kernels are for.
TEST_CASE("transformer forward in fp8 stays close to the reference") {
  const auto root = golden::skyreels();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  const Checkpoint io = Checkpoint::open(root / "a" / "dit_forward.safetensors"), io_b = Checkpoint::open(root / "b" / "dit_forward.safetensors");
  for (const at::Device& device : test_devices()) {
    if (device.is_cuda() && cuda::capability(at::empty({0}, at::TensorOptions().device(device))) < 89) continue;
    const golden::Target target{device, at::kBFloat16};
    const auto transformer = load(root / "a", target);
    transformer->merge_projections();
    CHECK(transformer->to_fp8() == 0);
    CHECK(transformer->layer(1).self_qkv.in_fp8());
    PlannedAttention plans(device);
    for (const auto dtype : {at::kBFloat16, at::kFloat8_e4m3fn}) plans.try_out(dtype, transformer->config().heads, transformer->config().head_width());
    check_all("a {}, products in fp8" + target.name(), io, *transformer, {&plans, false}, 4e-2);
    check_all("a {}, products and attention in fp8" + target.name(), io, *transformer, {&plans, true}, 4e-2);
    const auto b = load(root / "b", target);
    b->merge_projections();
    PlannedAttention plans_b(device);
    for (const auto dtype : {at::kBFloat16, at::kFloat8_e4m3fn}) plans_b.try_out(dtype, b->config().heads, b->config().head_width());
    check_all("b {}, attention in fp8" + target.name(), io_b, *b, {&plans_b, true, true}, 4e-2);
  }
}
