// The SkyReels-V2 transformer against the reference: full attention, one timestep for all frames, block-causal masks.
#include <ATen/ops/cat.h>

#include <nlohmann/json.hpp>

#include <fstream>

#include "models/skyreels/backbone.h"
#include "models/skyreels/transformer.h"
#include "tests/golden/golden.h"

using namespace longtake;

namespace {

struct Case {
  const skyreels::Transformer& transformer;
  at::Tensor x, context;
  std::vector<double> timesteps;
};

// One pass over all frames in chunks of `chunk` frames, attending causally between chunks or to everything.
at::Tensor forward(const Case& c, int64_t chunk, bool causal, int fps_index) {
  WindowGeometry g;
  for (int64_t f = 0; f < c.x.size(1); f += chunk) g.chunks.push_back({f, chunk});
  g.latent_height = c.x.size(2);
  g.latent_width = c.x.size(3);
  const skyreels::TextKv text = skyreels::prepare_text(c.transformer, c.context);
  const skyreels::SkyReelsBackbone backbone(c.transformer, {&text}, g, fps_index);
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

}  // namespace

TEST_CASE("transformer forward equals the reference in all five variants") {
  const auto root = golden::skyreels();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  for (const golden::Target& target : golden::targets())
    for (const std::string set : {"a", "b"}) {
      const auto folder = root / set;
      auto source = golden::source_of(folder / "dit.safetensors", target);
      nlohmann::json config;
      std::ifstream(folder / "config.json") >> config;
      skyreels::Transformer transformer(source, skyreels::TransformerConfig::from(source, config["num_heads"]));
      const Checkpoint io = Checkpoint::open(folder / "dit_forward.safetensors");
      Case c{transformer, io.tensor("fwd_x")[0], io.tensor("fwd_context")[0], {}};
      const at::Tensor t = io.tensor("fwd_t")[0];
      for (int64_t i = 0; i < t.size(0); ++i) c.timesteps.push_back(t[i].item<double>());
      const int64_t frames = c.x.size(1);
      const int fps_index = io.tensor("fwd_fps_index").item<int>();
      const std::vector<double> timesteps = c.timesteps;
      // The plain path, then the fused row.
      for (const std::string path : {"", " fused"}) {
        if (!path.empty()) transformer.merge_projections();
        c.timesteps = timesteps;
        const auto agrees = [&](const std::string& name, const at::Tensor& value, const std::string& wanted) {
          return golden::within(set + " " + name + path + target.name(), value, io.tensor(wanted)[0],
                                target.tolerance(1e-4, 3e-2));
        };

        CHECK(agrees("full attention", forward(c, frames, false, fps_index), "fwd_out"));
        CHECK(agrees("full attention, chunk by chunk", forward(c, 1, false, fps_index), "fwd_out"));
        CHECK(agrees("fps index 0", forward(c, frames, false, 0), "fwd_out_fps0"));
        CHECK(agrees("block-causal, 5 frames", forward(c, 5, true, fps_index), "fwd_blockcausal5_out"));
        CHECK(agrees("block-causal, 1 frame", forward(c, 1, true, fps_index), "fwd_blockcausal1_out"));
        c.timesteps.assign(frames, io.tensor("fwd_scalar_t").item<double>());
        CHECK(agrees("one timestep", forward(c, frames, false, fps_index), "fwd_scalar_out"));
      }
    }
}
