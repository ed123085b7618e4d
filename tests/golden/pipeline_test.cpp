// Whole runs against the reference: upstream SkyReels-V2, MotionCache's fork without caching, and with caching the
// recomputed sets.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <fmt/core.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "cache/motioncache.h"
#include "cache/step_distance.h"
#include "models/skyreels/backbone.h"
#include "runtime/generate.h"
#include "tests/golden/golden.h"

using namespace longtake;
using nlohmann::json;

namespace {

struct Reference {
  golden::Target target;
  std::string set;
  skyreels::Transformer transformer;
  WanVae vae;
  skyreels::TextKv cond, uncond;
  Checkpoint latents;
  json runs;

  static skyreels::Transformer load_transformer(const std::filesystem::path& folder, const golden::Target& target) {
    auto source = golden::source_of(folder / "dit.safetensors", target);
    const json config = json::parse(std::ifstream(folder / "config.json"));
    return {source, skyreels::TransformerConfig::from(source, config["num_heads"])};
  }
  static WanVae load_vae(const std::filesystem::path& folder, const golden::Target& target) {
    auto source = golden::source_of(folder / "vae.safetensors", {target.device, at::kFloat});
    return WanVae(source);
  }
  Reference(const std::filesystem::path& folder, const golden::Target& where)
      : target(where),
        set(folder.filename()),
        transformer(load_transformer(folder, where)),
        vae(load_vae(folder, where)),
        latents(Checkpoint::open(folder / "pipeline.safetensors")),
        runs(json::parse(std::ifstream(folder / "pipeline.json"))) {
    const Checkpoint text = Checkpoint::open(folder / "pipeline_context.safetensors");
    cond = skyreels::prepare_text(transformer, text.tensor("context")[0]);
    uncond = skyreels::prepare_text(transformer, text.tensor("negative_context")[0]);
  }
};

struct Result {
  std::vector<at::Tensor> latents;
  at::Tensor frames;  // [3, n, H, W]
  std::vector<DecisionRecord> decisions;
};

GenerateSettings settings_of(const json& run) {
  GenerateSettings s;
  s.plan = plan_windows({.frames = run["num_frames"],
                         .window_frames = run["base_num_frames"],
                         .overlap_frames = run.value("overlap_history", 0),
                         .chunk = run["causal_block_size"],
                         .whole_chunks = true,
                         .whole_windows = false});
  s.height = run["height"];
  s.width = run["width"];
  s.steps = run["num_inference_steps"];
  s.shift = run["shift"];
  s.ar_step = run["ar_step"];
  s.denoise.guidance = run["guidance_scale"];
  s.denoise.prefix_noise = run.value("addnoise_condition", 0);
  s.denoise.noise_every_row = true;
  s.denoise.overwritten_first_sample = true;
  s.denoise.attention = run.contains("token_cache") ? AttentionScheme::causal : AttentionScheme::window;
  return s;
}

MotionCacheSettings cache_settings(const json& c) {
  MotionCacheSettings m;
  m.threshold = c["threshold"];
  m.warmup = c["warmup"];
  m.phase1 = c["phase1"];
  m.floor = c["floor"];
  m.vote = c["tc"];
  m.min_ratio = c["min"];
  m.norm = c["norm"] == "mean" ? WeightNorm::mean : c["norm"] == "max" ? WeightNorm::max : WeightNorm::max_rescale;
  m.shared_mask = m.last_step = m.fresh_reference = false;
  return m;
}

Result run(const Reference& reference, const json& run) {
  const GenerateSettings settings = settings_of(run);
  const int fps_index = run["fps"] == 16 ? 0 : 1;
  const BackboneFactory make = [&](const WindowGeometry& g) {
    return std::make_unique<skyreels::SkyReelsBackbone>(
        reference.transformer, std::vector<const skyreels::TextKv*>{&reference.cond, &reference.uncond}, g, fps_index);
  };
  std::unique_ptr<CachePolicy> policy = std::make_unique<RecomputeAll>(2);
  if (run.contains("token_cache") && !run["token_cache"].is_null()) {
    const auto backbone = make(window_geometry(settings, settings.plan.windows[0]));
    const auto timesteps = flow_timesteps(settings.steps, settings.shift);
    const std::vector<double> t(timesteps.begin(), timesteps.end());
    std::vector<double> distance = relative_step_change(t, [&](double x) { return backbone->step_embedding(x); });
    for (double& d : distance) d = kWan1_3B(d);
    policy = std::make_unique<MotionCache>(cache_settings(run["token_cache"]), distance, 2);
  }
  TorchNoise noise(run["seed"], run["global_seed"]);
  Result result;
  GenerateHooks hooks;
  hooks.on_latents = [&](int, const at::Tensor& latents) {
    result.latents.push_back(latents.cpu().clone());
  };
  hooks.on_frames = [&](const at::Tensor& frames) {
    result.frames = result.frames.defined() ? at::cat({result.frames, frames.cpu()}, 1) : frames.cpu();
  };
  hooks.denoise.on_decision = [&](const DecisionRecord& d) { result.decisions.push_back(d); };
  generate(settings, make, reference.vae, *policy, noise, reference.target.device, hooks);
  return result;
}

// The recomputed token sets by (window, chunk, branch), in the order of the steps.
using Sets = std::map<std::tuple<int, int, int>, std::vector<std::vector<int64_t>>>;

Sets sets_of(const Result& result, int64_t frames, int64_t plane) {
  Sets sets;
  for (const DecisionRecord& d : result.decisions) {
    if (d.decision.tokens.is_none()) continue;
    const at::Tensor index = d.decision.tokens.indices(frames, plane, at::kCPU).contiguous();
    sets[{d.window, d.chunk, d.branch}].emplace_back(index.const_data_ptr<int64_t>(),
                                                     index.const_data_ptr<int64_t>() + index.numel());
  }
  return sets;
}

Sets sets_of(const json& trace, int64_t tokens) {
  Sets sets;
  std::vector<int64_t> all(tokens);
  for (int64_t i = 0; i < tokens; ++i) all[i] = i;
  for (const json& entry : trace) {
    if (!entry.contains("kind")) continue;
    auto& list = sets[{entry["iter"], entry["group"], entry["cond"].get<bool>() ? 0 : 1}];
    list.push_back(entry["kind"] == "full" ? all : entry["tokens"].get<std::vector<int64_t>>());
    std::sort(list.back().begin(), list.back().end());
  }
  return sets;
}

}  // namespace

TEST_CASE("uncached runs end in the reference's latents") {
  const auto root = golden::skyreels();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  for (const golden::Target& target : golden::targets())
    for (const std::string set : {"a", "b"}) {
      const Reference reference(root / set, target);
      for (const json& settings : reference.runs) {
        if (settings.contains("token_cache") && !settings["token_cache"].is_null()) continue;
        const std::string name = settings["name"];
        const Result result = run(reference, settings);
        for (size_t w = 0; w < result.latents.size(); ++w) {
          const std::string key = fmt::format("{}_latents{}", name, w);
          CHECK(golden::within(set + " " + key + target.name(), result.latents[w], reference.latents.tensor(key)[0],
                               target.tolerance(2e-3, 0.2)));
        }
        const std::string video = name + "_video";
        if (reference.latents.contains(video)) {
          // uint8 frames by truncation: a value on the edge may fall to either side.
          const at::Tensor frames = ((result.frames / 2 + 0.5).clamp(0, 1) * 255).to(at::kByte).permute({1, 2, 3, 0});
          const at::Tensor difference = (frames.to(at::kInt) - reference.latents.tensor(video).to(at::kInt)).abs();
          fmt::print("  {} {}{}: largest difference {} of 255, {:.3f} % of values differ\n", set, video, target.name(),
                     difference.max().item<int>(), 100.0 * (difference > 0).to(at::kDouble).mean().item<double>());
          if (target.dtype == at::kFloat) CHECK(difference.max().item<int>() <= 2);
        }
      }
    }
}

TEST_CASE("cached runs recompute the reference's token sets") {
  const auto root = golden::skyreels();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  for (const golden::Target& target : golden::targets())
    for (const std::string set : {"a", "b"}) {
      const Reference reference(root / set, target);
      for (const json& settings : reference.runs) {
        if (!settings.contains("token_cache") || settings["token_cache"].is_null()) continue;
        const std::string name = settings["name"];
        const Result result = run(reference, settings);
        const int64_t plane = (settings["height"].get<int64_t>() / 16) * (settings["width"].get<int64_t>() / 16);
        const int64_t frames = settings["causal_block_size"];
        const json trace = json::parse(std::ifstream(root / set / (name + "_trace.json")));
        const Sets want = sets_of(trace, frames * plane), got = sets_of(result, frames, plane);
        // In bfloat16 accumulators fall to other sides of the threshold: how many is printed, not judged.
        const bool exact = target.dtype == at::kFloat;
        size_t sets_compared = 0, sets_equal = 0;
        int64_t tokens = 0, differing = 0;
        for (const auto& [key, list] : want) {
          const auto found = got.find(key);
          REQUIRE(found != got.end());
          INFO(set << " " << name << " window " << std::get<0>(key) << " chunk " << std::get<1>(key));
          if (exact) CHECK(found->second.size() == list.size());
          for (size_t i = 0; i < std::min(list.size(), found->second.size()); ++i) {
            std::vector<int64_t> difference;
            std::set_symmetric_difference(list[i].begin(), list[i].end(), found->second[i].begin(),
                                          found->second[i].end(), std::back_inserter(difference));
            ++sets_compared;
            sets_equal += difference.empty();
            tokens += static_cast<int64_t>(list[i].size());
            differing += static_cast<int64_t>(difference.size());
          }
        }
        fmt::print("  {} {}{}: {} of {} recomputed sets equal, {} of {} tokens differ\n", set, name, target.name(),
                   sets_equal, sets_compared, differing, tokens);
        CHECK(want.size() == got.size());
        if (exact) CHECK(differing == 0);
        for (size_t w = 0; w < result.latents.size(); ++w) {
          const std::string key = fmt::format("{}_latents{}", name, w);
          CHECK(golden::within(set + " " + key + target.name(), result.latents[w], reference.latents.tensor(key)[0],
                               target.tolerance(2e-3, 0.2)));
        }
      }
    }
}
