#include "runtime/report.h"

#include <fmt/format.h>

#include "base/utf8.h"

#include "models/skyreels/backbone.h"
#include "models/wan_vae/cost.h"
#include "runtime/progress.h"

namespace longtake {
namespace {

struct PlannedWork {
  int rows = 0;
  double flops = 0;       // of the policy's attention scheme, everything computed
  int64_t max_row_tokens = 0;
  int64_t max_kv_tokens = 0;  // held at once
};

// Tokens whose keys and values a row holds: all of the window, or with compression what is kept of finished chunks and the chunks up to the
// last one that has started.
int64_t kv_tokens(const KvChoice& kv, const WindowGeometry& g, const Schedule& schedule, int row) {
  if (!kv.compresses()) return g.tokens();
  int64_t finished = 0, active = 0, whole = 0;
  for (int c = 0; c < schedule.chunks(); ++c) {
    whole = std::max(whole, g.chunk_tokens(c));
    if (schedule.last_row(c) < row)
      finished += g.chunk_tokens(c);
    else if (!schedule.row(row)[c].idle)
      active += g.chunk_tokens(c);
  }
  return kv.kept_tokens(finished, whole) + active;
}

// All rows of one window, with every active chunk computed.
PlannedWork plan_window_work(const PlanInput& input, const WindowSpan& window) {
  const GenerateSettings& s = input.settings;
  WindowGeometry g = window_geometry(s, window);
  g.plane = (s.height / 16) * (s.width / 16);
  const Schedule schedule = window_schedule(s, window);
  PlannedWork work;
  work.rows = schedule.rows();
  const bool full = s.denoise.attention == AttentionScheme::window;
  for (int row = 0; row < schedule.rows(); ++row) {
    int64_t tokens = 0;
    for (int c = 0; c < schedule.chunks(); ++c) {
      const bool prefix = c < schedule.ready_chunks();
      if (!full && !schedule.row(row)[c].update && !(prefix && row == 0)) continue;
      const int64_t keys = full ? g.tokens() : g.start(c) + g.chunk_tokens(c);
      tokens += g.chunk_tokens(c);
      work.flops += s.denoise.branches() *
                    skyreels::transformer_flops(input.transformer, g.chunk_tokens(c), keys, input.text_length, false);
    }
    work.max_row_tokens = std::max(work.max_row_tokens, tokens);
    work.max_kv_tokens = std::max(work.max_kv_tokens, kv_tokens(s.denoise.kv, g, schedule, row));
  }
  return work;
}

// "    prompts: chunks 1-3 'a red circle', chunk 4 'a blue star'"; "" where there is but one.
std::string prompts_of_window(const PlanInput& input, const WindowSpan& window) {
  const GenerateSettings& s = input.settings;
  if (input.prompts.size() < 2) return {};
  const auto chunks = window_chunks(window, s.plan.request.chunk);
  std::string out;
  for (size_t begin = 0, end = 0; begin < chunks.size(); begin = end) {
    const int text = text_of_chunk(s, window, chunks[begin]);
    while (end < chunks.size() && text_of_chunk(s, window, chunks[end]) == text) ++end;
    const std::string which = end == begin + 1 ? fmt::format("chunk {}", end) : fmt::format("chunks {}-{}", begin + 1, end);
    out += fmt::format("{}{} '{}'", out.empty() ? "    prompts: " : ", ", which, printable(input.prompts.at(text)));
  }
  return out + "\n";
}

}  // namespace

std::string stats_table(const RunStats& stats) {
  std::string out = fmt::format("{:<8}{:<7}{:<7}{:>12}{:>12}{:>12}{:>9}{:>14}{:>14}\n", "window", "chunk", "phase", "recomputed", "reused",
                                "predicted", "saved %", "FLOPs spent", "FLOPs saved");
  auto line = [&](const std::string& window, const std::string& chunk, const std::string& phase, const WorkCount& count) {
    out += fmt::format("{:<8}{:<7}{:<7}{:>12}{:>12}{:>12}{:>9.1f}{:>14}{:>14}\n", window, chunk, phase, count.recomputed, count.reused,
                       count.predicted, 100 * count.saved_share(), format_flops(count.flops), format_flops(count.flops_saved));
  };
  for (const auto& [key, count] : stats.by_chunk) {
    const auto& [window, chunk, phase] = key;
    line(fmt::format("{}", window + 1), fmt::format("{}", chunk + 1), name_of(phase), count);
  }
  line("all", "", "", stats.total());
  out += fmt::format("K/V held: {} at most, {} in the mean over rows; {} without compression\n",
                     format_bytes(static_cast<double>(stats.kv_bytes)), format_bytes(stats.mean_kv_bytes()),
                     format_bytes(static_cast<double>(stats.kv_full_bytes)));
  out += fmt::format("seconds: denoise {:.1f}, decode {:.1f}, encode {:.1f}", stats.denoise_seconds, stats.decode_seconds,
                     stats.encode_seconds);
  if (stats.checkpoint_seconds > 0) out += fmt::format(", checkpoints {:.2f}", stats.checkpoint_seconds);
  out += "\n";
  return out;
}

double MemoryPlan::peak() const {
  // The text encoder is freed before the others are loaded; decoding holds the window's latents and no K/V.
  return std::max({text_encoder, transformer + vae + kv + residuals + activations, transformer + vae + decode});
}

MemoryPlan plan_memory(const PlanInput& input) {
  const GenerateSettings& s = input.settings;
  const auto bytes = static_cast<double>(input.value_bytes);
  const auto dim = static_cast<double>(input.transformer.dim);
  const double branches = s.denoise.branches();
  MemoryPlan m;
  m.transformer = input.transformer_parameters * bytes;
  if (input.fp8) {
    const double layers = std::max<double>(static_cast<double>(input.transformer.layers) - 2, 0);
    m.transformer -= layers * (6 * dim * dim + 2 * dim * static_cast<double>(input.transformer.ffn_dim)) * (bytes - 1);
  }
  m.text_encoder = input.text_parameters * bytes;
  m.vae = input.vae_parameters * 4;  // always float32
  int64_t tokens = 0, row_tokens = 0, kv_tokens = 0;
  for (const WindowSpan& window : s.plan.windows) {
    tokens = std::max<int64_t>(tokens, window.latent_frames * (s.height / 16) * (s.width / 16));
    const PlannedWork work = plan_window_work(input, window);
    row_tokens = std::max(row_tokens, work.max_row_tokens);
    kv_tokens = std::max(kv_tokens, work.max_kv_tokens);
  }
  m.kv = 2 * branches * static_cast<double>(input.transformer.layers * kv_tokens) * dim * bytes;
  m.residuals = input.policy.residuals() * branches * static_cast<double>(tokens) * dim * bytes;
  // Per token of a row: the residual stream and two temporaries in float32, q, k, v and the hidden row of the FFN.
  m.activations = branches * static_cast<double>(row_tokens) *
                  (dim * 4 * 5 + dim * bytes * 5 + static_cast<double>(input.transformer.ffn_dim) * bytes * 2);
  m.decode = static_cast<double>(vae_decode_peak_bytes(input.vae, s.height, s.width, s.decode_latents, 4));
  return m;
}

std::string plan_report(const PlanInput& input) {
  const GenerateSettings& s = input.settings;
  std::string out = fmt::format("video: {} frames of {}x{} (height x width), {} latent frames, {} window{}\n",
                                s.plan.request.frames, s.height, s.width, s.plan.latent_frames, s.plan.windows.size(),
                                s.plan.windows.size() == 1 ? "" : "s");
  double flops = 0;
  int rows = 0;
  for (const WindowSpan& window : s.plan.windows) {
    const PlannedWork work = plan_window_work(input, window);
    const auto chunks = window_chunks(window, s.plan.request.chunk);
    out += fmt::format("  window {}: {} latent frames ({} of them prefix{}) in {} chunks, {} rows, adds {} frames, {}\n",
                       window.index + 1, window.latent_frames, window.prefix_latents, window.end_picture ? ", and the end picture" : "",
                       chunks.size(), work.rows, window.frames, format_flops(work.flops));
    out += prompts_of_window(input, window);
    flops += work.flops;
    rows += work.rows;
  }
  out += fmt::format("rows: {} x {} branch{}, {} without reuse\n", rows, s.denoise.branches(),
                     s.denoise.branches() == 1 ? "" : "es", format_flops(flops));
  if (!input.preview.empty())
    out += fmt::format("decisions by step (F full, R reused, P predicted, T per token, ? by row): {}\n", input.preview);
  out += fmt::format("VAE decode: {}\n", format_flops(vae_decode_flops(input.vae, s.height, s.width, s.plan.request.frames)));
  const MemoryPlan m = plan_memory(input);
  out += fmt::format("memory: peak {} (text encoder {}, then transformer {}, VAE {}, K/V {}, residuals {}, activations {}, "
                     "decode {})\n",
                     format_bytes(m.peak()), format_bytes(m.text_encoder), format_bytes(m.transformer), format_bytes(m.vae),
                     format_bytes(m.kv), format_bytes(m.residuals), format_bytes(m.activations), format_bytes(m.decode));
  return out;
}

}  // namespace longtake
