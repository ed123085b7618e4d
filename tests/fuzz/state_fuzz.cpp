// Input: one byte that says whose, and a record of a run folder as the .safetensors file that holds it. Its owner takes it, and gives
// the same back, or refuses it with an Error (bad_file); anything else is a bug.
#include <ATen/ops/ones.h>

#include <cstdlib>
#include <functional>

#include "base/error.h"
#include "cache/kv_cache.h"
#include "cache/kv_compress.h"
#include "cache/residual.h"
#include "models/weights/safetensors.h"
#include "runtime/noise.h"
#include "runtime/policies.h"
#include "runtime/run_stats.h"
#include "runtime/unipc.h"

namespace {

using namespace longtake;

State read_state(std::vector<uint8_t> bytes) {
  const SafetensorsFile file = SafetensorsFile::from_bytes(std::move(bytes), "fuzz.safetensors");
  std::map<std::string, at::Tensor> tensors;
  for (const TensorInfo& info : file.tensors()) tensors[info.name] = file.tensor(info.name).clone();
  return {std::move(tensors), "fuzz.safetensors"};
}

// An owner whose state was taken gives the same entries back, of equal shapes and types.
template <class Owner>
void take(const State& state, Owner& owner, const std::function<void()>& load) {
  load();
  state.check_all_read();
  State again;
  owner.save(again);
  for (const auto& [name, tensor] : again.tensors()) {
    const auto found = state.tensors().find(name);
    if (found == state.tensors().end() || found->second.sizes() != tensor.sizes() || found->second.scalar_type() != tensor.scalar_type()) std::abort();
  }
}

void keys_and_values(const State& state, bool parts) {
  const KvChunks chunks{{0, 2, 4, 6}, 2};
  KvCache kv({1, 2, 6, 1, 2}, at::kFloat, at::kCPU, parts ? std::optional(TokenRange{0, 0}) : std::nullopt);
  if (!parts) return take(state, kv, [&] { kv.load(state); });
  const auto merge = MergeKvSettings{.distance = 1}.make(chunks);
  kv.load(state);
  for (int b = 0; b < 2; ++b)
    if (kv.layer(0, b).first > 4 || kv.layer(0, b).end() < 4) return;  // the loop refuses this
  merge->load(state, kv, 2);
  state.check_all_read();
  kv.grow(6);
  merge->finish(kv, 3);
}

// Of the seeds: two chunks of 1 x 4 tokens in two branches, rows of two numbers.
const StateLayout kLayout{{1, 1}, 4, 2, {2, at::kFloat}, {2, at::kFloat}, {2, at::kFloat}, at::kCPU};
constexpr int kSteps = 4;

// A policy that took a state decides the next row by it.
void next_row(CachePolicy& policy, int branches) {
  policy.begin_row({0, 3, 8, {{500, 1, true}, {400, 1, true}}});
  const at::Tensor rows = at::ones({1, 4, 2});
  const auto context = [](int chunk) { return StepContext{0, chunk, 2, kSteps, 1, 4, false}; };
  for (int c = 0; c < 2; ++c) policy.input(context(c), rows);
  for (int c = 0; c < 2; ++c)
    if (policy.decide(context(c)).size() != static_cast<size_t>(branches)) std::abort();
  for (int c = 0; c < 2; ++c)
    for (int b = 0; b < branches; ++b) {
      if (policy.wants_change()) policy.changed(context(c), b, rows.select(2, 0));
      policy.observe(context(c), b, rows);
    }
}

void policy(const State& state, const char* text) {
  const StepModel model{[](double t) { return at::full({4}, t); }, DistanceRule::linear, 4};
  const auto policy = make_policy(choose_policy(parse_policy(text), false), flow_timesteps(kSteps, 8), model, kLayout.branches);
  policy->begin_window(0);
  take(state, *policy, [&] { policy->load(state, kLayout); });
  next_row(*policy, kLayout.branches);
}

void latent_policy(const State& state, const char* text) {
  const auto policy = make_latent_policy(choose_policy(parse_policy(text), false, PolicyFamily::latent));
  policy->begin_window(0);
  take(state, *policy, [&] { policy->load(state, kLayout); });
  next_row(*policy, 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  try {
    const State state = read_state({data + 1, data + size});
    switch (data[0]) {
      case 'k': keys_and_values(state, false); break;
      case 'K': keys_and_values(state, true); break;
      case 'r': {
        ResidualCache residuals(2);
        take(state, residuals, [&] { residuals.load(state, kLayout); });
        break;
      }
      case 'u': {
        UniPcState solver;
        const auto steps = static_cast<int>(std::clamp<int64_t>(state.integers("solver/step", 1)[0], 0, 50));
        solver.load(state, "solver", steps, {1, 1, 2, 2}, at::kCPU);
        break;
      }
      case 's': {
        RunStats stats;
        take(state, stats, [&] { stats.load(state); });
        break;
      }
      case 'n': {
        TorchNoise noise(1, 2);
        take(state, noise, [&] { noise.load(state, {1, 1, 0}); });
        break;
      }
      case 'M': policy(state, "motioncache:warmup=0,phase1=1"); break;
      case 'P': policy(state, "predict:warmup=0,phase1=1"); break;
      case 'F': policy(state, "flowcache:warmup=0"); break;
      case 'T': policy(state, "teacache:ret=1"); break;
      case 'D': policy(state, "driftcache:warmup=1,unit=token"); break;
      case 'm': latent_policy(state, "motioncache:warmup=0,chunk_steps=0,reuse_first=0.9"); break;
      case 'f': latent_policy(state, "flowcache:warmup=0"); break;
      case 't': latent_policy(state, "teacache:ret=1"); break;
      default: break;
    }
  } catch (const Error& error) {
    if (error.code() != ExitCode::bad_file) std::abort();
  }
  return 0;
}
