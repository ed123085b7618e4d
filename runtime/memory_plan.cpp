#include "runtime/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "models/ops/block_stream.h"
#include "models/wan_vae/cost.h"
#include "runtime/fragments.h"
#include "runtime/progress.h"

namespace longtake {
namespace {

// Measured: code of libraries that computing brings in, their threads' stacks and packed operands (CPU); workspaces of cuBLAS and cuDNN.
constexpr double kCpuRest = 40e6, kCpuRestBf16 = 80e6, kCudaRest = 100e6;
constexpr double kCpuTextRest = 10e6;  // a text encoder needs little of that
constexpr double kCpuSecondThread = 10e6;
// Measured of libx264: what it is opened with, what it holds of a pixel of a frame, and how many frames: kFramesAhead, or at the end
// of a fragment, which it is brought to, those of the fragment; besides, references and what its threads are at.
constexpr double kEncoder = 10e6, kEncodedPixel = 5.5;
constexpr int64_t kFramesBesides = 8;

double rest(const PlanInput& input) { return library_bytes(input.on_cpu, std::min(input.form.value_bytes, input.vae_value_bytes)); }

double vae_weights(const PlanInput& input) { return loaded_bytes(input.vae_weights, static_cast<double>(input.vae_value_bytes), input.on_cpu); }

HeldFrames held_frames(const PlanInput& input) {
  const GenerateSettings& s = input.settings;
  const int64_t made = s.plan.request.frames - (s.show_given ? 0 : s.plan.request.given_frames);
  const int64_t shown = input.shown_frames, pushed = s.decode_latents * input.vae.temporal_factor();
  return HeldFrames::of(frame_target_bytes(input.frames_go, input.on_cpu, s.height, s.width, input.fps, shown + made, shown, pushed), shown);
}

// Of the transformer on its device.
double resident_weights(const PlanInput& input) {
  if (input.on_cpu) return loaded_bytes(input.transformer, static_cast<double>(input.form.value_bytes), true);
  double bytes = skyreels::weight_bytes(input.config, input.form, input.transformer.parameters);
  if (!input.offload) return bytes;
  double widest = 0;
  for (int64_t i = 0; i < input.config.layers; ++i) {
    const double block = skyreels::block_bytes(input.config, input.form, i);
    bytes -= block;
    widest = std::max(widest, block);
  }
  return bytes + kBlocksOnDevice * widest;
}

StageMemory plan_load(const PlanInput& input) {
  StageMemory m;
  const auto bytes = static_cast<double>(input.form.value_bytes);
  m.weights = resident_weights(input);
  if (!input.on_cpu && !input.offload)  // all of it comes before products go to fp8
    m.weights = std::max(m.weights, input.transformer.parameters * bytes - vae_weights(input));
  m.weights += mapped_meanwhile(input.transformer, input.on_cpu);
  m.vae = vae_weights(input);
  if (!input.on_cpu) m.rest = rest(input);
  return m;
}

// Encoding what a window takes over: the overlap's frames at once, or those that were given.
double encode_bytes(const PlanInput& input) {
  const GenerateSettings& s = input.settings;
  int64_t frames = s.plan.request.given_frames;
  if (s.history == History::reencode && s.plan.windows.size() > 1) frames = std::max<int64_t>(frames, s.plan.request.overlap_frames);
  if (s.plan.request.end_picture) frames = std::max<int64_t>(frames, 1);
  if (frames == 0) return 0;
  const int64_t latents = (frames + input.vae.temporal_factor() - 1) / input.vae.temporal_factor();
  return static_cast<double>(vae_encode_peak_bytes(input.vae, s.height, s.width, latents, input.vae_value_bytes));
}

// One push of the VAE, and what is held then where the run's frames before it went.
struct Push {
  double coding = 0, frames = 0;
};

// The widest one.
Push widest_push(const PlanInput& input) {
  const GenerateSettings& s = input.settings;
  int64_t latents = s.plan.latent_frames;  // of one clip
  if (s.history == History::reencode) {
    latents = 0;
    for (const WindowSpan& window : s.plan.windows) latents = std::max<int64_t>(latents, window.latent_frames);
  }
  const auto bytes = [&](int64_t pushed, bool first) {
    return static_cast<double>(vae_decode_push_bytes(input.vae, s.height, s.width, pushed, first, input.vae_value_bytes));
  };
  const int64_t first = std::min<int64_t>(latents, s.decode_latents), next = std::min<int64_t>(latents - first, s.decode_latents);
  const double frames = held_frames(input).later;
  const Push a{bytes(first, true), s.plan.windows.size() > 1 ? frames : 0};
  if (next == 0) return a;
  const Push b{bytes(next, false), frames};
  return a.coding + a.frames > b.coding + b.frames ? a : b;
}

}  // namespace

double loaded_bytes(const PartSizes& part, double value_bytes, bool on_cpu) {
  if (!on_cpu) return part.parameters * value_bytes;
  return part.converted * value_bytes + (part.converted < part.parameters ? part.stored_bytes : 0);
}

double mapped_meanwhile(const PartSizes& part, bool on_cpu) { return on_cpu && part.converted == part.parameters ? part.stored_bytes : 0; }

double library_bytes(bool on_cpu, int64_t value_bytes) {
  if (!on_cpu) return kCudaRest;
  return value_bytes == 2 ? kCpuRestBf16 : kCpuRest;  // products in bfloat16 run on copies in float32
}

double second_thread_bytes(bool on_cpu) { return on_cpu ? kCpuSecondThread : 0; }

double frame_target_bytes(FrameTarget target, bool on_cpu, int64_t height, int64_t width, int fps, int64_t frames, int64_t shown, int64_t pushed) {
  if (!on_cpu || target == FrameTarget::none) return 0;
  const auto pixels = static_cast<double>(height * width);
  if (target == FrameTarget::tensors) return 3 * pixels * static_cast<double>(frames);
  int64_t waiting = kFramesAhead;
  if (target == FrameTarget::growing_video)
    waiting = std::max(longest_fragment(fps, pushed), shown > 0 ? longest_fragment(fps, std::min(shown, kShownAtOnce)) : 0);
  return kEncoder + kEncodedPixel * pixels * static_cast<double>(std::min(frames, waiting + kFramesBesides));
}

StageMemory plan_text(const PartSizes& encoder, const Umt5Sizes& sizes, int64_t length, int64_t value_bytes, bool on_cpu) {
  StageMemory m;
  const auto bytes = static_cast<double>(value_bytes), tokens = static_cast<double>(length);
  m.weights = loaded_bytes(encoder, bytes, on_cpu) + mapped_meanwhile(encoder, on_cpu);
  // Of a table that is a view of the file only the rows of the texts' tokens are read: it is the largest tensor.
  if (on_cpu && encoder.converted == 0) m.weights -= encoder.largest_bytes;
  const double scores = static_cast<double>(sizes.heads) * tokens * tokens * 4;
  m.activations = 4 * scores + tokens * (static_cast<double>(sizes.dim) * (8 + 3 * bytes) + 3 * static_cast<double>(sizes.ffn) * bytes);
  m.rest = on_cpu ? kCpuTextRest : library_bytes(on_cpu, value_bytes);
  return m;
}

const char* name_of(MemoryStage stage) {
  switch (stage) {
    case MemoryStage::text: return "text encoding";
    case MemoryStage::load: return "loading";
    case MemoryStage::denoise: return "denoising";
    case MemoryStage::decode: return "decoding";
  }
  return "";
}

const StageMemory& MemoryPlan::stage(MemoryStage stage) const {
  switch (stage) {
    case MemoryStage::text: return text;
    case MemoryStage::load: return load;
    case MemoryStage::denoise: return denoise;
    case MemoryStage::decode: break;
  }
  return decode;
}

MemoryStage MemoryPlan::widest() const {
  return *std::max_element(std::begin(kMemoryStages), std::end(kMemoryStages),
                           [this](MemoryStage a, MemoryStage b) { return stage(a).total() < stage(b).total(); });
}

double MemoryPlan::peak() const { return stage(widest()).total(); }

MemoryPlan plan_memory(const PlanInput& input) {
  const GenerateSettings& s = input.settings;
  const int64_t branches = s.denoise.branches();
  const Push push = widest_push(input);
  const HeldFrames frames = held_frames(input);
  MemoryPlan plan;
  if (input.only_decodes) {
    plan.decode.vae = vae_weights(input);
    plan.decode.coding = push.coding;
    plan.decode.rest = rest(input) + frames.always + push.frames;
    return plan;
  }
  if (input.encodes) {
    plan.text = plan_text(input.text_encoder, input.text, input.text_length, input.form.value_bytes, input.on_cpu);
    plan.text.rest += frames.always;
  }
  plan.load = plan_load(input);
  plan.load.rest += frames.always;
  if (input.offload)
    for (int64_t i = 0; i < input.config.layers; ++i) plan.host += skyreels::block_bytes(input.config, input.form, i);

  StageMemory all;
  all.weights = resident_weights(input);
  all.vae = vae_weights(input);
  all.rest = rest(input) + frames.always;
  const double texts = static_cast<double>(input.texts) * skyreels::text_kv_bytes(input.config, input.form, input.text_length);

  plan.denoise = plan.decode = all;
  plan.decode.kv = texts;
  plan.decode.coding = std::max(push.coding, encode_bytes(input));
  plan.decode.rest += push.frames;
  if (s.decode_ahead) plan.decode.rest += second_thread_bytes(input.on_cpu);
  const auto history = static_cast<double>(vae_decode_history_bytes(input.vae, s.height, s.width, input.vae_value_bytes));
  for (const WindowSpan& window : s.plan.windows) {
    const bool goes_on = window.index > 0 && s.history == History::carry;  // with the frames of the windows before
    const auto chunks = window_chunks(window, s.plan.request.chunk);
    const int64_t plane = (s.height / 16) * (s.width / 16);
    skyreels::RowSize size{.branches = branches};
    for (const ChunkSpan& chunk : chunks) {
      size.chunk_tokens = std::max<int64_t>(size.chunk_tokens, chunk.frames * plane);
      size.window_tokens += chunk.frames * plane;
    }
    const double residuals = input.policy.residuals() * skyreels::residual_bytes(input.config, input.form, branches * size.window_tokens);
    for (const PlannedRow& row : planned_rows(input, window)) {
      size.branch_rows = row.computed;
      size.rows = branches * row.computed;
      size.embedded = row.active;
      StageMemory m = all;
      m.kv = texts + skyreels::kv_bytes(input.config, input.form, row.kv, branches);
      m.residuals = residuals;
      m.activations = skyreels::row_bytes(input.config, input.form, size);
      m.coding = row.decodes_beside ? push.coding : goes_on ? history : 0;
      if (row.decodes_beside) m.rest += second_thread_bytes(input.on_cpu);
      if (row.encodes_beside) m.rest += frames.later;
      if (m.total() > plan.denoise.total()) plan.denoise = m;
    }
  }
  return plan;
}

std::string memory_table(const MemoryPlan& plan) {
  std::string out = fmt::format("memory, at most: {:>13}{:>10}{:>10}{:>10}{:>11}{:>13}{:>12}{:>10}\n", "weights", "VAE", "K/V", "residuals",
                                "rows", "de-/encoding", "libraries", "all");
  for (const MemoryStage stage : kMemoryStages) {
    const StageMemory& m = plan.stage(stage);
    if (m.total() == 0) continue;
    const auto cell = [](double bytes) { return bytes == 0 ? std::string("-") : format_bytes(bytes); };
    out += fmt::format("  {:<14} {:>13}{:>10}{:>10}{:>10}{:>11}{:>13}{:>12}{:>10}\n", name_of(stage), cell(m.weights), cell(m.vae), cell(m.kv),
                       cell(m.residuals), cell(m.activations), cell(m.coding), cell(m.rest), cell(m.total()));
  }
  out += fmt::format("peak memory: {} while {}{}\n", format_bytes(plan.peak()), name_of(plan.widest()),
                     plan.host > 0 ? fmt::format(", and {} of page-locked host memory", format_bytes(plan.host)) : "");
  return out;
}

nlohmann::ordered_json memory_json(const MemoryPlan& plan) {
  nlohmann::ordered_json out;
  for (const MemoryStage stage : kMemoryStages) out[name_of(stage)] = {{"predicted_bytes", std::llround(plan.stage(stage).total())}};
  return out;
}

}  // namespace longtake
