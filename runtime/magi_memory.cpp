#include "runtime/magi_memory.h"

#include <ATen/Context.h>

#include <algorithm>
#include <limits>

#include "base/cuda.h"
#include "base/error.h"
#include "models/magi_vae/cost.h"
#include "models/ops/block_stream.h"
#include "models/wan_vae/cost.h"
#include "models/weights/checkpoint.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/names.h"
#include "runtime/magi_model.h"
#include "runtime/magi_recipe.h"
#include "runtime/magi_step.h"

namespace longtake {
namespace {

constexpr int64_t kSpecialRows = 7;     // in front of a caption, at most
constexpr int64_t kMostDurations = 8;   // special rows that differ between chunks
constexpr int64_t kNullRows = 50;       // of the text that stands for none

bool is_wan(const MagiPlanInput& input) { return std::holds_alternative<VaeSizes>(input.vae); }

double vae_parameters(const std::variant<MagiVaeConfig, VaeSizes>& vae, const Architecture& a) {
  const auto* config = std::get_if<MagiVaeConfig>(&vae);
  if (config == nullptr || a.vae_parameters > 0) return static_cast<double>(a.vae_parameters);
  double sum = 0;
  for (const auto& [name, shape] : list_magi_vae_weights(*config)) {
    double values = 1;
    for (const int64_t size : shape) values *= static_cast<double>(size);
    sum += values;
  }
  return sum;
}

double decode_bytes(const MagiPlanInput& input) {
  const magi::RunConfig& run = input.request.config.run;
  const int64_t latents = input.request.decode_latents;
  if (const auto* sizes = std::get_if<VaeSizes>(&input.vae))
    return static_cast<double>(vae_decode_peak_bytes(*sizes, run.height, run.width, input.request.settings().size.frames(), latents, input.vae_value_bytes));
  const auto& config = std::get<MagiVaeConfig>(input.vae);
  return static_cast<double>(magi_vae_decode_peak_bytes(config, MagiTiling::of(config), run.height, run.width, latents * config.patch_length,
                                                        input.vae_value_bytes));
}

// Encoding the given frames, which come before the first row.
double encode_bytes(const MagiPlanInput& input) {
  const magi::RunConfig& run = input.request.config.run;
  const int64_t latents = input.request.prefix_frames();
  if (latents == 0) return 0;
  if (const auto* sizes = std::get_if<VaeSizes>(&input.vae))
    return static_cast<double>(vae_encode_peak_bytes(*sizes, run.height, run.width, latents, input.vae_value_bytes));
  const auto& config = std::get<MagiVaeConfig>(input.vae);
  return static_cast<double>(magi_vae_encode_peak_bytes(config, MagiTiling::of(config), run.height, run.width, latents * config.patch_length,
                                                        input.vae_value_bytes));
}

// Of the VAE. On the CPU views of its file count as far as they have been read: not before the first frames are coded, and of MAGI-1's, whose
// encoder and decoder are alike, only half where nothing is encoded.
double resident_vae(const MagiPlanInput& input, bool codes) {
  const PartSizes& part = input.vae_weights;
  const double all = loaded_bytes(part, static_cast<double>(input.vae_value_bytes), input.on_cpu);
  if (!input.on_cpu || part.converted == part.parameters || input.request.given.defined()) return all;
  const double unread = !codes ? 1 : is_wan(input) ? 0 : 0.5;
  return all - unread * part.stored_bytes;
}

// Of one part until it is loaded: on the CPU views of the file are read when they are first computed with, so only what is converted counts,
// as it is stored and as it becomes.
double bytes_while_loading(const PartSizes& part, double value_bytes) {
  return part.parameters == 0 ? 0 : part.converted * (value_bytes + part.stored_bytes / part.parameters);
}

// Layers that are quantised: by their share of the parameters.
int64_t quantised_layers(const MagiPlanInput& input) {
  return std::llround(input.transformer.quantised / magi::quantised_parameters(input.config));
}

double offloaded_bytes(const MagiPlanInput& input) {
  if (!input.offload) return 0;
  const int64_t quantised = quantised_layers(input);
  return static_cast<double>(quantised) * magi::layer_bytes(input.config, input.form, true) +
         static_cast<double>(input.config.layers - quantised) * magi::layer_bytes(input.config, input.form, false);
}

// Of the transformer on its device.
double resident_weights(const MagiPlanInput& input) {
  if (input.on_cpu) {
    const PartSizes& part = input.transformer;
    // What stays in float32 is a view of a file in float32, which stays mapped with all that was read of it.
    const bool keeps_file = input.form.value_bytes < 4 && part.stored_bytes >= 4 * part.parameters;
    return loaded_bytes(part, static_cast<double>(input.form.value_bytes), true) + (keeps_file ? part.stored_bytes : 0);
  }
  const double bytes = magi::weight_bytes(input.config, input.form, input.transformer.parameters, input.transformer.quantised);
  if (!input.offload) return bytes;
  const bool all = quantised_layers(input) == input.config.layers;
  return bytes - offloaded_bytes(input) + kBlocksOnDevice * magi::layer_bytes(input.config, input.form, all);
}

// Keys and values of the captions that the run's chunks read, and of the text that stands for none.
double text_bytes(const MagiPlanInput& input, const magi::VideoSize& size) {
  const int64_t prompts = static_cast<int64_t>(input.request.prompts.size());
  const int64_t texts = std::min<int64_t>(size.chunks - size.first, prompts * (input.request.special_tokens.duration ? kMostDurations : 1));
  return static_cast<double>(texts) * magi::text_kv_bytes(input.config, input.form, input.caption_rows) +
         magi::text_kv_bytes(input.config, input.form, std::min(kNullRows, input.config.caption_length));
}

// What a row computes and reads, with nothing reused.
magi::RowSize row_size(const magi::Row& row, const magi::VideoSettings& s, int64_t chunk_tokens) {
  magi::RowSize size{.embedded = static_cast<int64_t>(row.chunks.size()) * chunk_tokens, .video = s.size.chunks * chunk_tokens};
  for (const WorkItem& item : magi::work_items(row, s.schedule, s.config, chunk_tokens)) {
    size.rows += chunk_tokens;
    size.keys = std::max(size.keys, item.keys.end - item.keys.begin);
    if (!item.writes_kv) size.joined = std::max(size.joined, item.keys.end - item.keys.begin);
  }
  return size;
}

// What the VAE's files say of it.
void read_vae(MagiPlanInput& input, const ModelFiles& files, const ModelTarget& target) {
  if (has_wan_vae(input.recipe))
    input.vae = vae_sizes(files);
  else
    input.vae = read_magi_vae_config(files.vae);
  input.vae_weights = part_sizes(files.vae, vae_dtype(input.recipe, target));
}

HeldFrames held_frames(const MagiPlanInput& input) {
  const magi::RunConfig& run = input.request.config.run;
  const int64_t shown = input.request.shown_frames, pushed = input.request.decode_latents * temporal_stride;
  return HeldFrames::of(frame_target_bytes(input.frames_go, input.on_cpu, run.height, run.width, run.fps, shown + input.request.frames(), shown, pushed),
                        shown);
}

MemoryPlan plan_only_decoding(const MagiPlanInput& input) {
  const HeldFrames frames = held_frames(input);
  MemoryPlan plan;
  plan.decode.vae = resident_vae(input, /*codes=*/true);
  plan.decode.coding = decode_bytes(input);
  plan.decode.rest = library_bytes(input.on_cpu, input.vae_value_bytes) + frames.always + frames.later;
  return plan;
}

}  // namespace

MagiPlanInput plan_magi_model(const ResolvedModel& model, const ModelTarget& target, magi::QuantisedAs quantised_as, bool random_weights) {
  const Recipe& recipe = model.recipe;
  const Architecture& a = recipe.architecture;
  MagiPlanInput input;
  input.recipe = recipe;
  input.config = magi_sizes(recipe);
  input.on_cpu = target.device.is_cpu();
  input.offload = target.offload;
  // A GPU that is planned for and not there will have our kernels.
  input.form = {.value_bytes = static_cast<int64_t>(c10::elementSize(target.dtype)), .fp8 = a.fp8 && quantised_as == magi::QuantisedAs::fp8,
                .fused = !input.on_cpu && (cuda::built() || !at::hasCUDA())};
  input.vae_value_bytes = static_cast<int64_t>(c10::elementSize(vae_dtype(recipe, target)));
  input.random_weights = random_weights;
  if (random_weights || !model.files) {
    if (has_wan_vae(recipe))
      input.vae = vae_sizes(recipe);
    else
      input.vae = magi_vae_config(recipe);
    input.transformer = part_of_recipe(a.transformer_parameters > 0 ? static_cast<double>(a.transformer_parameters) : magi::parameters(input.config));
    // The published ones have all layers quantised but the first and the last.
    if (a.fp8) input.transformer.quantised = static_cast<double>(std::max<int64_t>(0, a.layers - 2)) * magi::quantised_parameters(input.config);
    input.text_encoder = part_of_recipe(static_cast<double>(a.text_parameters));
    input.vae_weights = part_of_recipe(vae_parameters(input.vae, a));
    return input;
  }
  const ModelFiles& files = *model.files;
  read_vae(input, files, target);
  input.transformer = part_sizes(files.transformer, target.dtype);
  input.text_encoder = part_sizes(files.text_encoder, at::kFloat);
  Checkpoint text = Checkpoint::open(files.text_encoder);
  auto translate = umt5_translator(text);
  input.text = read_umt5_sizes(CheckpointSource(std::move(text), std::move(translate), at::kCPU, at::kFloat),
                               a.umt5 ? PositionBias::per_layer : PositionBias::shared);
  return input;
}

MagiPlanInput plan_magi_decoder(const ResolvedModel& model, const ModelTarget& target) {
  MagiPlanInput input;
  input.recipe = model.recipe;
  input.on_cpu = target.device.is_cpu();
  input.vae_value_bytes = static_cast<int64_t>(c10::elementSize(vae_dtype(model.recipe, target)));
  input.only_decodes = true;
  read_vae(input, model.require_files(), target);
  return input;
}

void plan_request(MagiPlanInput& input, const MagiRequest& request, bool encodes) {
  input.request = request;
  input.encodes = encodes && !input.random_weights;
  // A token stands for a byte or more, and there is an end mark. Random captions are as long as the model reads.
  const int64_t longest = input.config.caption_length;
  input.caption_rows = 0;
  for (const std::string& prompt : request.prompts) {
    const int64_t rows = static_cast<int64_t>(prompt.size()) + 2 + kSpecialRows;
    input.caption_rows = std::max(input.caption_rows, input.random_weights || prompt.empty() ? longest : std::min(rows, longest));
  }
}

MemoryPlan plan_memory(const MagiPlanInput& input) {
  if (input.only_decodes) return plan_only_decoding(input);
  const magi::RunConfig& run = input.request.config.run;
  const magi::VideoSettings s = input.request.settings();
  const int64_t tokens = int64_t{run.chunk_frames} * (run.height / 16) * (run.width / 16);
  const HeldFrames frames = held_frames(input);
  MemoryPlan plan;
  if (input.encodes) {
    plan.text = plan_text(input.text_encoder, input.text, input.caption_rows, /*value_bytes=*/4, input.on_cpu);
    plan.text.rest += frames.always;
  }
  plan.host = offloaded_bytes(input);

  StageMemory all;
  all.weights = resident_weights(input);
  all.vae = resident_vae(input, /*codes=*/true);
  all.rest = library_bytes(input.on_cpu, std::min(input.form.value_bytes, input.vae_value_bytes));
  plan.load = all;
  if (input.on_cpu) {
    plan.load.weights = bytes_while_loading(input.transformer, static_cast<double>(input.form.value_bytes));
    plan.load.vae = input.vae_weights.converted * static_cast<double>(input.vae_value_bytes);  // its file is let go before
    plan.load.rest = 0;
  }
  plan.load.rest += frames.always;
  all.rest += frames.always;
  all.kv = text_bytes(input, s.size);

  const double coding = decode_bytes(input);
  plan.denoise = plan.decode = all;
  plan.denoise.vae = resident_vae(input, /*codes=*/false);
  plan.denoise.coding = encode_bytes(input);
  plan.decode.coding = coding;
  const bool ahead = input.request.run.decode_ahead;
  if (ahead) plan.decode.rest += second_thread_bytes(input.on_cpu);
  plan.decode.activations = 16 * static_cast<double>(input.config.latent_channels() * s.size.chunks * tokens);  // the latents

  const std::vector<magi::Row> rows = magi::rows(s.schedule, s.size);
  const auto is_shown = [&](const magi::Row& row) {
    return row.finished >= 0 && s.size.emitted(row.finished).begin < s.size.emitted(row.finished).end;
  };
  auto done = std::count_if(rows.begin(), rows.end(), is_shown);  // chunks to decode, before a row
  if (done > 1) plan.decode.rest += frames.later;  // of the first of them
  // From the last row back: the first chunk that a row or a later one reads.
  int64_t first = s.size.chunks;
  for (size_t i = rows.size(); i-- > 0;) {
    done -= is_shown(rows[i]);
    for (const magi::ChunkStep& c : rows[i].chunks) first = std::min(first, c.keys.begin);
    const magi::RowSize size = row_size(rows[i], s, tokens);
    StageMemory m = all;
    // Where decisions are per token, each branch of guidance keeps its own.
    const int stores = s.own_keys ? run.branches : 1;
    m.kv += stores * magi::kv_bytes(input.config, input.form, (rows[i].chunks.back().chunk + 1 - first) * tokens);
    if (const int kept = input.request.policy.residuals(); kept > 0)
      m.residuals = static_cast<double>(size.embedded) *
                    static_cast<double>(16 * kept * input.config.latent_channels() + input.config.dim * input.form.value_bytes);
    m.activations = magi::row_bytes(input.config, input.form, size);
    const bool waits = i > 0 && i + 1 == rows.size() && is_shown(rows[i - 1]);  // waits_for_window
    if (const auto beside = done - waits; ahead && beside > 0) {
      m.coding = coding;
      m.rest += second_thread_bytes(input.on_cpu);
      if (beside > 1) m.rest += frames.later;
    } else {
      m.vae = resident_vae(input, /*codes=*/false);
    }
    if (m.total() > plan.denoise.total()) plan.denoise = m;
  }
  return plan;
}

DecodeChoice choose_decoding(const GenerateOptions& options, MagiPlanInput input, double room) {
  MagiRequest& r = input.request;
  const auto peak = [&](const DecodeChoice& choice) {
    r.decode_latents = choice.latents, r.run.decode_ahead = choice.ahead;
    return plan_memory(input).peak();
  };
  return choose_decoding({r.decode_latents, r.run.decode_ahead}, is_wan(input) && options.decode_latents == 0, peak, room);
}

MemoryOutlook memory_outlook(const GenerateOptions& options, const MagiPlanInput& input, double room) {
  MemoryOutlook outlook;
  if (input.only_decodes) {
    outlook.otherwise = input.on_cpu ? "decode it where there is more" : "take --device cpu";
    outlook.peak = [&input](const GenerateOptions&) { return plan_memory(input).peak(); };
    return outlook;
  }
  outlook.otherwise = "take a smaller model";
  outlook.peak = [&input, room](const GenerateOptions& o) {
    try {
      MagiPlanInput changed = input;
      changed.offload = o.offload;
      MagiRequest request = make_magi_request(input.recipe, o);
      request.given = input.request.given, request.shown_frames = input.request.shown_frames;
      request.run.decode_ahead = input.request.run.decode_ahead;
      plan_request(changed, request, input.encodes);
      const DecodeChoice choice = choose_decoding(o, changed, room);
      changed.request.decode_latents = choice.latents, changed.request.run.decode_ahead = choice.ahead;
      return plan_memory(changed).peak();
    } catch (const Error&) {
      return std::numeric_limits<double>::infinity();
    }
  };
  if (is_wan(input) && options.decode_latents > 1)
    outlook.changes.push_back({"--decode-latents 1", [](GenerateOptions& o) { o.decode_latents = 1; }});
  if (!input.on_cpu && !options.offload) outlook.changes.push_back({"--offload", [](GenerateOptions& o) { o.offload = true; }});
  if (options.in_flight > 1) outlook.changes.push_back({"--in-flight 1", [](GenerateOptions& o) { o.in_flight = 1; }});
  if (options.key_chunks != "1" && options.key_chunks != "2")
    outlook.changes.push_back({"--key-chunks 2", [](GenerateOptions& o) { o.key_chunks = "2"; }});
  return outlook;
}

}  // namespace longtake
