// What a run's plan is made from, before anything is loaded: settings, sizes and file headers.
#pragma once

#include <c10/core/ScalarType.h>

#include <filesystem>
#include <string>
#include <vector>

#include "models/skyreels/memory.h"
#include "models/umt5/encoder.h"
#include "models/wan_vae/sizes.h"
#include "runtime/generate.h"
#include "runtime/policies.h"

namespace longtake {

struct RunRequest;
struct ResolvedModel;
struct GenerateOptions;
struct ModelTarget;
struct ModelFiles;

// One part of a model, as its file's header tells, or a recipe where there is no file.
struct PartSizes {
  double parameters = 0;
  double stored_bytes = 0;   // in the file; 0 without one
  double converted = 0;      // parameters that are stored in another dtype than they are computed in
  double quantised = 0;      // of these, those stored in e4m3
  double largest_bytes = 0;  // the largest tensor as stored
};
PartSizes part_sizes(const std::filesystem::path& path, at::ScalarType computed_in);
PartSizes part_of_recipe(double parameters);

// Where a run's frames go, as far as the process holds something of them there.
enum class FrameTarget {
  none,
  video,          // an encoder that looks ahead
  growing_video,  // one that is brought to its end with each fragment
  tensors         // all of them are kept until the end
};

struct PlanInput {
  // Of the model and where it runs:
  skyreels::TransformerConfig config;
  skyreels::ComputeForm form;
  int64_t vae_value_bytes = 4;
  bool on_cpu = true;  // weights may be views of the files, and the process holds everything
  PartSizes transformer, text_encoder, vae_weights;
  Umt5Sizes text{};       // 0 where there is no file
  VaeSizes vae;
  int64_t text_length = 0;
  bool encodes = true;    // false: texts come from elsewhere, and the encoder is not loaded
  bool fp8_possible = false;
  bool offload = false;   // blocks stay in host memory and come to the device one by one
  std::optional<StepModel> steps;  // where there are files
  bool only_decodes = false;  // nothing but the VAE is loaded
  FrameTarget frames_go = FrameTarget::none;

  // Of the run:
  GenerateSettings settings;
  PolicyChoice policy;
  int64_t texts = 1;  // whose keys and values it holds
  std::vector<std::string> prompts;  // over time; with one, nothing is said of them
  int64_t shown_frames = 0;  // as in VideoRequest
  int fps = 24;
  std::string preview;  // the policy's decisions by step (CachePolicy::preview); "" where they are not known
};

// What is to be known of the model: from the files' headers where there are files, else from the recipe. `target` says where and in which
// precision; a run with random weights reads no files. Errors: bad_file where neither gives the sizes.
PlanInput plan_model(const ResolvedModel& model, const ModelTarget& target, int fps, bool random_weights = false);

// The same where latents are there already: the VAE's sizes alone.
PlanInput plan_decoder(const ModelFiles& files, const ModelTarget& target);

// Completes it with a run.
void plan_request(PlanInput& input, const RunRequest& request);

// One row of a window's schedule.
struct PlannedRow {
  int64_t active = 0;    // tokens of the chunks that it embeds
  int64_t computed = 0;  // tokens that may go through the transformer in each branch: what the policy leaves open counts in full
  int64_t kv = 0;        // tokens whose keys and values are held
  bool decodes_beside = false;  // enough latents are done for the VAE to decode some beside it
  bool encodes_beside = false;  // frames that were decoded before are held where they go
  double flops = 0;      // everything computed, all branches
};
std::vector<PlannedRow> planned_rows(const PlanInput& input, const WindowSpan& window);

}  // namespace longtake
