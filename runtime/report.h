// Tables for people: the plan before a run and what it computed after it.
#pragma once

#include <string>
#include <vector>

#include "models/skyreels/transformer.h"
#include "models/wan_vae/sizes.h"
#include "runtime/generate.h"
#include "runtime/policies.h"
#include "runtime/run_stats.h"

namespace longtake {

// Tokens recomputed, reused and predicted by chunk and phase, FLOPs spent and saved, seconds by stage.
std::string stats_table(const RunStats& stats);

// What a run will hold at most, by stage, in bytes.
struct MemoryPlan {
  double transformer = 0, text_encoder = 0, vae = 0;  // weights
  double kv = 0, residuals = 0, activations = 0, decode = 0;
  double peak() const;
};

struct PlanInput {
  GenerateSettings settings;
  PolicyChoice policy;
  skyreels::TransformerConfig transformer;
  double transformer_parameters = 0, text_parameters = 0, vae_parameters = 0;
  VaeSizes vae;
  int64_t text_length = 0;
  int64_t value_bytes = 4;
  bool fp8 = false;     // the products that Transformer::to_fp8 brings there
  std::vector<std::string> prompts;  // over time; with one, nothing is said of them
  std::string preview;  // the policy's decisions by step (CachePolicy::preview)
};

MemoryPlan plan_memory(const PlanInput& input);

// Windows, chunks, rows, FLOPs without reuse (and of full attention), decisions known in advance, predicted peak memory.
std::string plan_report(const PlanInput& input);

}  // namespace longtake
