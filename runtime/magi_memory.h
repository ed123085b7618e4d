// What a MAGI-1 run holds at most, stage by stage: the counterpart of plan_input.h and plan_memory (memory_plan.h).
//
// A row holds the keys and values of the chunks that it or a later one attends to. What a policy decides as it goes counts as computed.
#pragma once

#include <variant>

#include "models/magi/memory.h"
#include "models/magi_vae/config.h"
#include "models/wan_vae/sizes.h"
#include "runtime/magi_engine.h"
#include "runtime/memory_check.h"
#include "runtime/memory_plan.h"

namespace longtake {

struct MagiPlanInput {
  // Of the model and where it runs:
  Recipe recipe;
  magi::ModelConfig config;
  magi::ComputeForm form;
  int64_t vae_value_bytes = 4;
  bool on_cpu = true;
  bool offload = false;
  PartSizes transformer, text_encoder, vae_weights;
  Umt5Sizes text{};         // 0 where there is no file
  std::variant<MagiVaeConfig, VaeSizes> vae;  // MAGI-1's own, or Wan's
  bool random_weights = false;
  bool only_decodes = false;  // nothing but the VAE is loaded

  // Of the run:
  MagiRequest request;
  bool encodes = true;      // false: the caption is known, and the text encoder is not loaded
  int64_t caption_rows = 0; // that the caption has at most
};

// What is to be known of the model: from the files' headers where there are files, else from the recipe. A run with random weights reads no
// files. Errors: bad_file where neither gives the sizes.
MagiPlanInput plan_magi_model(const ResolvedModel& model, const ModelTarget& target, magi::QuantisedAs quantised_as, bool random_weights = false);

// The same where latents are there already: the VAE's sizes alone. The model's files must be there.
MagiPlanInput plan_magi_decoder(const ResolvedModel& model, const ModelTarget& target);

// Completes it with a run; `encodes` as above.
void plan_request(MagiPlanInput& input, const MagiRequest& request, bool encodes);

MemoryPlan plan_memory(const MagiPlanInput& input);

// How the run decodes (memory_check.h): beside denoising where the input's request has it so; with Wan's VAE the options may leave open how many
// latents.
DecodeChoice choose_decoding(const GenerateOptions& options, MagiPlanInput input, double room);

// What its runs can do about their memory (where they only decode: nothing); refers to the input.
MemoryOutlook memory_outlook(const GenerateOptions& options, const MagiPlanInput& input, double room);

}  // namespace longtake
