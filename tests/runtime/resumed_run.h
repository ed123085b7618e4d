// Runs of a tiny model that are stopped and go on from their folder.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>

#include "base/error.h"
#include "runtime/generate.h"
#include "runtime/policies.h"
#include "runtime/run_folder.h"
#include "tests/catch.h"
#include "tests/runtime/tiny_model.h"

namespace longtake::test::resume {

struct Output {
  at::Tensor frames;
  std::vector<at::Tensor> latents;
  std::vector<std::string> notes;
  RunStats stats;
  int rows = 0;  // that were computed
  int frames_before_rows = 0;
};

// Two windows of a tiny model, whose overlap ends within a chunk; everything that a run needs.
class World {
 public:
  World() : threads_(at::get_num_threads()) {
    at::set_num_threads(1);  // nothing here is large enough for more
    InitSource source([](const std::string&) { return true; }, 8);
    vae_ = std::make_unique<WanVae>(source, make_vae_sizes(4, {1, 2, 4, 4}, 1, {false, true, true}));
    settings.plan = plan_windows({.frames = 25, .window_frames = 17, .overlap_frames = 9, .chunk = 2});
    settings.height = 32;
    settings.width = 32;
    settings.steps = 3;
    settings.ar_step = 1;
    settings.denoise.prefix_noise = 200;
  }

  // Stops after `stop_after` rows where that is given.
  Output run(RunFolder* folder, std::optional<int> stop_after = std::nullopt, const std::function<void(int rows)>& on_row = {}) const {
    GenerateSettings s = settings;
    const PolicyChoice choice = choose_policy(parse_policy(policy), parity);
    s.denoise.attention = choice.attention;
    s.denoise.kv = choose_kv(kv, choice.attention);
    s.denoise.noise_every_row = s.denoise.overwritten_first_sample = parity;
    const BackboneFactory make = [&](const WindowGeometry& g) { return model_.backbone(g); };
    const auto probe = make(window_geometry(s, s.plan.windows[0]));
    const StepModel steps{[&](double t) { return probe->step_embedding(t); }, DistanceRule::linear, model_.config.dim};
    const auto decisions = make_policy(choice, flow_timesteps(s.steps, s.shift), steps, 2);
    std::unique_ptr<NoiseSource> noise;
    if (parity)
      noise = std::make_unique<TorchNoise>(5, 5);
    else
      noise = std::make_unique<PhiloxNoise>(5);
    Output out;
    GenerateHooks hooks;
    hooks.on_latents = [&](int, const at::Tensor& l) { out.latents.push_back(l.clone()); };
    hooks.on_frames = [&](const at::Tensor& f) { out.frames = out.frames.defined() ? at::cat({out.frames, f}, 1) : f.clone(); };
    hooks.on_note = [&](const std::string& note) { out.notes.push_back(note); };
    hooks.denoise.on_row = [&](int, int) {
      if (out.rows++ == 0 && out.frames.defined()) out.frames_before_rows = static_cast<int>(out.frames.size(1));
      if (on_row) on_row(out.rows);
    };
    hooks.should_stop = [&] {
      return (stop_after && out.rows >= *stop_after) || (stop_after_frames && out.frames.defined() && out.frames.size(1) >= *stop_after_frames);
    };
    try {
      out.stats = generate(s, make, *vae_, *decisions, *noise, at::kCPU, hooks, folder);
    } catch (const Error& error) {
      if (!stop_after && !stop_after_frames) throw;
      CHECK(error.code() == ExitCode::interrupted);
    }
    return out;
  }

  GenerateSettings settings;
  std::optional<int> stop_after_frames;
  std::string policy = "causal", kv = "full";
  bool parity = false;

  ~World() { at::set_num_threads(threads_); }

 private:
  int threads_;
  TinyModel model_;
  std::unique_ptr<WanVae> vae_;
};

inline RunRecord some_record() {
  RunRecord record;
  record.version = "1";
  for (const OptionInfo& info : option_schema()) record.options[info.key] = option_text(GenerateOptions(), info);
  record.options["prompt"] = "x";
  record.options["out"] = "out.mp4";
  record.options["seed"] = "5";
  return record;
}

inline void check_equal(const Output& a, const Output& b) {
  CHECK(at::equal(a.frames, b.frames));
  REQUIRE(a.latents.size() == b.latents.size());
  for (size_t i = 0; i < a.latents.size(); ++i) CHECK(at::equal(a.latents[i], b.latents[i]));
  const WorkCount one = a.stats.total(), other = b.stats.total();
  CHECK(one.recomputed == other.recomputed);
  CHECK(one.reused == other.reused);
  CHECK(one.flops == other.flops);
  CHECK(a.stats.kv_bytes == b.stats.kv_bytes);
  CHECK(a.stats.mean_kv_bytes() == b.stats.mean_kv_bytes());
  CHECK(a.stats.kv_full_bytes == b.stats.kv_full_bytes);
}

}  // namespace longtake::test::resume
