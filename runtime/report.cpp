#include "runtime/report.h"

#include <fmt/format.h>

#include "base/utf8.h"

#include "models/wan_vae/cost.h"
#include "runtime/memory_plan.h"
#include "runtime/progress.h"

namespace longtake {
namespace {

// "" where there is but one.
std::string prompts_of_window(const PlanInput& input, const WindowSpan& window) {
  if (input.prompts.size() < 2) return {};
  std::vector<int> of_chunk;
  for (const ChunkSpan& chunk : window_chunks(window, input.settings.plan.request.chunk))
    of_chunk.push_back(text_of_chunk(input.settings, window, chunk));
  return fmt::format("    prompts: {}\n", prompts_by_chunk(input.prompts, of_chunk));
}

}  // namespace

std::string prompts_by_chunk(const std::vector<std::string>& prompts, const std::vector<int>& of_chunk, int first) {
  std::string out;
  for (size_t begin = 0, end = 0; begin < of_chunk.size(); begin = end) {
    while (end < of_chunk.size() && of_chunk[end] == of_chunk[begin]) ++end;
    const size_t from = begin + static_cast<size_t>(first), to = end - 1 + static_cast<size_t>(first);
    const std::string which = from == to ? fmt::format("chunk {}", from) : fmt::format("chunks {}-{}", from, to);
    out += fmt::format("{}{} '{}'", out.empty() ? "" : ", ", which, printable(prompts.at(static_cast<size_t>(of_chunk[begin]))));
  }
  return out;
}

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

std::string plan_report(const PlanInput& input) {
  const GenerateSettings& s = input.settings;
  std::string out = fmt::format("video: {} frames of {}x{} (height x width), {} latent frames, {} window{}\n",
                                s.plan.request.frames, s.height, s.width, s.plan.latent_frames, s.plan.windows.size(),
                                s.plan.windows.size() == 1 ? "" : "s");
  double flops = 0;
  size_t rows = 0;
  for (const WindowSpan& window : s.plan.windows) {
    const std::vector<PlannedRow> planned = planned_rows(input, window);
    double window_flops = 0;
    for (const PlannedRow& row : planned) window_flops += row.flops;
    const auto chunks = window_chunks(window, s.plan.request.chunk);
    out += fmt::format("  window {}: {} latent frames ({} of them prefix{}) in {} chunks, {} rows, adds {} frames, {}\n",
                       window.index + 1, window.latent_frames, window.prefix_latents, window.end_picture ? ", and the end picture" : "",
                       chunks.size(), planned.size(), window.frames, format_flops(window_flops));
    out += prompts_of_window(input, window);
    flops += window_flops;
    rows += planned.size();
  }
  out += fmt::format("rows: {} x {} branch{}, {} without reuse\n", rows, s.denoise.branches(),
                     s.denoise.branches() == 1 ? "" : "es", format_flops(flops));
  if (!input.preview.empty())
    out += fmt::format("decisions by step (F full, R reused, P predicted, T per token, ? by row): {}\n", input.preview);
  out += fmt::format("VAE decode: {}\n", format_flops(vae_decode_flops(input.vae, s.height, s.width, s.plan.request.frames)));
  out += memory_table(plan_memory(input));
  return out;
}

}  // namespace longtake
