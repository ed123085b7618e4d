#include "runtime/plan_input.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

#include "base/cuda.h"
#include "models/skyreels/backbone.h"
#include "models/weights/checkpoint.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/names.h"
#include "runtime/engine.h"

namespace longtake {
namespace {

// Tokens that a step computes at most, of `tokens`.
int64_t computed_at_most(const PlanInput& input, int window, int chunk, int step, int64_t frames, int64_t plane) {
  const int64_t tokens = frames * plane;
  if (const auto* replay = std::get_if<PlanSettings>(&input.policy.settings)) {
    double share = 0;
    for (int b = 0; b < input.settings.denoise.branches(); ++b)
      if (const PlanEntry* entry = replay->plan->find(window, chunk, step, b)) share = std::max(share, entry->tokens.share(frames, plane));
    return std::llround(share * static_cast<double>(tokens));
  }
  const bool known = step < static_cast<int>(input.preview.size());
  return known && (input.preview[step] == 'R' || input.preview[step] == 'P') ? 0 : tokens;
}

}  // namespace

PartSizes part_sizes(const std::filesystem::path& path, at::ScalarType computed_in) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  PartSizes part;
  for (const std::string& name : checkpoint.names()) {
    const TensorInfo& info = checkpoint.info(name);
    double elements = 1;
    for (const int64_t size : info.shape) elements *= static_cast<double>(size);
    const double bytes = elements * static_cast<double>(c10::elementSize(info.dtype));
    part.parameters += elements;
    part.stored_bytes += bytes;
    part.largest_bytes = std::max(part.largest_bytes, bytes);
    if (info.dtype != computed_in) part.converted += elements;
    if (info.dtype == at::kFloat8_e4m3fn) part.quantised += elements;
  }
  return part;
}

PartSizes part_of_recipe(double parameters) {
  PartSizes part;
  part.parameters = part.converted = parameters;
  return part;
}

PlanInput plan_model(const ResolvedModel& model, const ModelTarget& target, int fps, bool random_weights) {
  const Architecture& a = model.recipe.architecture;
  PlanInput input;
  input.on_cpu = target.device.is_cpu();
  // A GPU that is planned for and not there will have our kernels.
  input.form = {.value_bytes = static_cast<int64_t>(c10::elementSize(target.dtype)),
                .fused = !input.on_cpu && (cuda::built() || !at::hasCUDA()),
                .fp8 = target.fp8};
  input.vae_value_bytes = static_cast<int64_t>(c10::elementSize(target.wan_vae_dtype()));
  input.offload = target.offload;
  input.fp8_possible = !input.on_cpu && target.dtype == at::kBFloat16 &&
                       (!at::hasCUDA() || (cuda::built() && cuda::capability(at::empty({0}, at::TensorOptions().device(target.device))) >= 89));
  input.text_length = a.text_len > 0 ? a.text_len : 512;
  if (random_weights || !model.files) {
    if (a.dim == 0) model.require_files();
    input.config = transformer_config(model.recipe);
    input.vae = vae_sizes(model.recipe);
    input.transformer = part_of_recipe(static_cast<double>(a.transformer_parameters));
    input.text_encoder = part_of_recipe(static_cast<double>(a.text_parameters));
    input.vae_weights = part_of_recipe(static_cast<double>(a.vae_parameters));
    input.encodes = !random_weights;
    return input;
  }
  const ModelFiles& files = *model.files;
  input.config = transformer_config(files);
  input.vae = vae_sizes(files);
  input.transformer = part_sizes(files.transformer, target.dtype);
  input.text_encoder = part_sizes(files.text_encoder, target.dtype);
  input.vae_weights = part_sizes(files.vae, target.wan_vae_dtype());
  Checkpoint text = Checkpoint::open(files.text_encoder);
  auto translate = umt5_translator(text);
  input.text = read_umt5_sizes(CheckpointSource(std::move(text), std::move(translate), at::kCPU, target.dtype));
  input.steps = step_model(model.recipe, load_step_embedding(files, fps == 16 ? 0 : 1), input.config.dim);
  return input;
}

PlanInput plan_decoder(const ModelFiles& files, const ModelTarget& target) {
  PlanInput input;
  input.vae_value_bytes = static_cast<int64_t>(c10::elementSize(target.wan_vae_dtype()));
  input.on_cpu = target.device.is_cpu();
  input.vae = vae_sizes(files);
  input.vae_weights = part_sizes(files.vae, target.wan_vae_dtype());
  input.only_decodes = true;
  return input;
}

void plan_request(PlanInput& input, const RunRequest& request) {
  const GenerateSettings& s = input.settings = request.settings;
  input.policy = request.policy;
  input.prompts = request.prompts;
  input.shown_frames = request.shown_frames;
  input.fps = request.fps;
  input.texts = static_cast<int64_t>(request.all_texts().size());
  input.form.fp8_attention = input.form.fp8 && input.form.fused && !s.denoise.kv.compresses();
  input.form.gives_queries = s.denoise.kv.compresses();
  input.preview.clear();
  if (input.steps)
    input.preview = make_policy(request.policy, flow_timesteps(s.steps, s.shift), *input.steps, s.denoise.branches())->preview(s.steps);
}

std::vector<PlannedRow> planned_rows(const PlanInput& input, const WindowSpan& window) {
  const GenerateSettings& s = input.settings;
  WindowGeometry g = window_geometry(s, window);
  g.plane = (s.height / 16) * (s.width / 16);
  const Schedule schedule = window_schedule(s, window);
  const bool full = s.denoise.attention == AttentionScheme::window;
  const int64_t kv = most_kv_tokens(s.denoise.kv, g, schedule);
  std::vector<PlannedRow> rows(schedule.rows());
  for (int r = 0; r < schedule.rows(); ++r) {
    PlannedRow& row = rows[r];
    // Carried history leaves the window before to be decoded beside this one; its prefix is decoded already.
    const bool carries = window.index > 0 && s.history == History::carry;
    int64_t finished = carries ? 0 : window.prefix_latents;
    for (int c = 0; c < schedule.chunks(); ++c) {
      const ChunkStep step = schedule.row(r)[c];
      const bool prefix = c < schedule.ready_chunks();
      if (!prefix && schedule.last_row(c) < r && !waits_for_window(schedule.last_row(c), schedule.rows())) finished += g.chunks[c].frames;
      if (!full && !step.update && !(prefix && r == 0)) continue;
      const int64_t tokens = g.chunk_tokens(c), keys = full ? g.tokens() : g.start(c) + tokens;
      row.active += tokens;
      row.computed += step.update ? computed_at_most(input, window.index, c, step.step, g.chunks[c].frames, g.plane) : tokens;
      row.flops += s.denoise.branches() * skyreels::transformer_flops(input.config, tokens, keys, input.text_length, false);
    }
    row.decodes_beside = s.decode_ahead && (carries || finished >= s.decode_latents);
    row.encodes_beside = window.index > 0 || (s.decode_ahead && finished >= 2 * s.decode_latents);
    row.kv = kv;
  }
  return rows;
}

}  // namespace longtake
