// Input: one byte that says whose, and a record of a run folder as the .safetensors file that holds it. Its owner takes it, and gives
// the same back, or refuses it with an Error (bad_file); anything else is a bug.
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

void policy(const State& state, const char* text) {
  const StepModel model{[](double t) { return at::full({4}, t); }, DistanceRule::linear, 4};
  const auto policy = make_policy(choose_policy(parse_policy(text), false), flow_timesteps(4, 8), model, 2);
  policy->begin_window(0);
  take(state, *policy, [&] { policy->load(state, at::kCPU); });
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
        take(state, residuals, [&] { residuals.load(state, at::kCPU); });
        break;
      }
      case 'u': {
        UniPcState solver;
        state.integers("solver/step", 1);
        solver.load(state, "solver", {1, 1, 2, 2}, at::kCPU);
        break;
      }
      case 's': {
        RunStats stats;
        take(state, stats, [&] { stats.load(state); });
        break;
      }
      case 'n': {
        TorchNoise noise(1, 2);
        take(state, noise, [&] { noise.load(state); });
        break;
      }
      case 'M': policy(state, "motioncache"); break;
      case 'P': policy(state, "predict"); break;
      case 'F': policy(state, "flowcache"); break;
      case 'T': policy(state, "teacache"); break;
      case 'D': policy(state, "driftcache"); break;
      default: break;
    }
  } catch (const Error& error) {
    if (error.code() != ExitCode::bad_file) std::abort();
  }
  return 0;
}
