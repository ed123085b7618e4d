#include "apps/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/machine.h"
#include "runtime/progress.h"

namespace longtake {
namespace {

double share_computed(const WorkCount& work) { return 1 - work.saved_share(); }

std::string memory(int64_t bytes) { return bytes == 0 ? "unknown" : format_bytes(static_cast<double>(bytes)); }

}  // namespace

void BenchResult::predict(const MemoryPlan& plan, bool on_cpu) {
  base_bytes = on_cpu ? resident_bytes() : 0;
  denoise_predicted_bytes = base_bytes + std::llround(plan.denoise.total());
  decode_predicted_bytes = base_bytes + std::llround(plan.decode.total());
}

double BenchResult::denoise_seconds() const {
  double sum = 0;
  for (const BenchRow& row : rows) sum += row.seconds;
  return sum;
}

WorkCount BenchResult::work() const {
  WorkCount sum;
  for (const BenchRow& row : rows) sum += row.work;
  return sum;
}

std::vector<BenchGroup> by_chunks(const std::vector<BenchRow>& rows) {
  std::map<int, std::vector<const BenchRow*>> groups;
  for (const BenchRow& row : rows) groups[row.chunks].push_back(&row);
  std::vector<BenchGroup> out;
  for (const auto& [chunks, members] : groups) {
    std::vector<double> seconds;
    double flops = 0, sum = 0;
    for (const BenchRow* row : members) seconds.push_back(row->seconds), flops += row->work.flops, sum += row->seconds;
    std::sort(seconds.begin(), seconds.end());
    const size_t half = seconds.size() / 2;
    const double median = seconds.size() % 2 == 1 ? seconds[half] : (seconds[half - 1] + seconds[half]) / 2;
    out.push_back({chunks, static_cast<int>(members.size()), median, sum > 0 ? flops / sum : 0});
  }
  return out;
}

std::string to_text(const BenchResult& r) {
  std::string out = fmt::format(
      "longtake {}, {}, {}, {} on {}\n", r.version, r.model, r.weights,
      r.precision == r.dtype ? r.dtype : fmt::format("{} with products in {}", r.dtype, r.precision), r.device);
  const std::string scheme = r.in_flight > 0 ? fmt::format("{} chunks in flight", r.in_flight) : fmt::format("ar step {}", r.ar_step);
  out += fmt::format("{} frames of {}x{}, {} steps, {}, {} branch{}, {}\n\n", r.frames, r.height, r.width, r.steps, scheme, r.branches,
                     r.branches == 1 ? "" : "es", r.policy);
  out += fmt::format("{:<8}{:>5}{:>8}{:>12}{:>10}{:>13}{:>11}{:>12}\n", "window", "row", "chunks", "recomputed",
                     "of all", "FLOPs", "seconds", "TFLOP/s");
  for (const BenchRow& row : r.rows)
    out += fmt::format("{:<8}{:>5}{:>8}{:>12}{:>8.1f} %{:>13}{:>11.4f}{:>12.2f}\n", row.window + 1, row.row + 1,
                       row.chunks, row.work.recomputed, 100 * share_computed(row.work), format_flops(row.work.flops),
                       row.seconds, row.flops_per_second() * 1e-12);
  out += fmt::format("\n{:<8}{:>6}{:>18}{:>12}\n", "chunks", "rows", "median seconds", "TFLOP/s");
  for (const BenchGroup& group : by_chunks(r.rows))
    out += fmt::format("{:<8}{:>6}{:>18.4f}{:>12.2f}\n", group.chunks, group.rows, group.median_seconds,
                       group.flops_per_second * 1e-12);
  const WorkCount work = r.work();
  const double seconds = r.denoise_seconds();
  out +=
      fmt::format("\ndenoise: {:.3f} s in {} of {} rows{}, {} ({:.2f} TFLOP/s), {:.1f} % of the tokens recomputed\n",
                  seconds, r.rows.size(), r.rows_planned, r.stopped() ? " (stopped there: --rows)" : "",
                  format_flops(work.flops), seconds > 0 ? work.flops / seconds * 1e-12 : 0, 100 * share_computed(work));
  out += r.decode_seconds ? fmt::format("decode: {:.3f} s, VAE in {}\n", *r.decode_seconds, r.vae_dtype)
                          : "decode: not measured, because the run was stopped\n";
  out += fmt::format("set-up: {:.3f} s, a first row that does not count {:.3f} s\n", r.setup_seconds, r.warmup_seconds);
  out += fmt::format("K/V: {} at most; transformer weights: {}\n", format_bytes(static_cast<double>(r.stats.kv_bytes)),
                     format_bytes(static_cast<double>(r.weight_bytes)));
  const auto predicted = [&](int64_t bytes) { return bytes > 0 ? fmt::format(" (predicted {})", memory(bytes)) : std::string(); };
  out += fmt::format("peak memory ({}): denoise {}{}", r.memory_meaning, memory(r.denoise_peak_bytes), predicted(r.denoise_predicted_bytes));
  if (r.decode_seconds) out += fmt::format(", decode {}{}", memory(r.decode_peak_bytes), predicted(r.decode_predicted_bytes));
  out += fmt::format("; host {}\n", memory(r.host_peak_bytes));
  if (r.profile) out += to_text(*r.profile, r.ceilings);
  return out;
}

nlohmann::ordered_json to_json(const BenchResult& r) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array(), groups = nlohmann::ordered_json::array();
  for (const BenchRow& row : r.rows)
    rows.push_back({{"window", row.window},
                    {"row", row.row},
                    {"chunks", row.chunks},
                    {"recomputed", row.work.recomputed},
                    {"recomputed_share", share_computed(row.work)},
                    {"flops", row.work.flops},
                    {"seconds", row.seconds},
                    {"flops_per_second", row.flops_per_second()}});
  for (const BenchGroup& group : by_chunks(r.rows))
    groups.push_back({{"chunks", group.chunks},
                      {"rows", group.rows},
                      {"median_seconds", group.median_seconds},
                      {"flops_per_second", group.flops_per_second}});
  const WorkCount work = r.work();
  const double seconds = r.denoise_seconds();
  const auto known = [](int64_t bytes) {
    return bytes == 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(bytes);
  };
  const std::pair<const char*, int> scheme = r.in_flight > 0 ? std::pair("in_flight", r.in_flight) : std::pair("ar_step", r.ar_step);
  return {{"version", r.version},
          {"model", r.model},
          {"weights", r.weights},
          {"device", r.device},
          {"dtype", r.dtype},
          {"precision", r.precision},
          {"vae_dtype", r.vae_dtype},
          {"policy", r.policy},
          {"frames", r.frames},
          {"height", r.height},
          {"width", r.width},
          {"steps", r.steps},
          {scheme.first, scheme.second},
          {"branches", r.branches},
          {"rows_planned", r.rows_planned},
          {"stopped", r.stopped()},
          {"setup_seconds", r.setup_seconds},
          {"warmup_seconds", r.warmup_seconds},
          {"denoise_seconds", seconds},
          {"decode_seconds", r.decode_seconds ? nlohmann::ordered_json(*r.decode_seconds) : nlohmann::ordered_json()},
          {"flops", work.flops},
          {"flops_saved", work.flops_saved},
          {"flops_per_second", seconds > 0 ? work.flops / seconds : 0},
          {"recomputed_share", share_computed(work)},
          {"kv_bytes", r.stats.kv_bytes},
          {"weight_bytes", r.weight_bytes},
          {"memory_meaning", r.memory_meaning},
          {"denoise_peak_bytes", known(r.denoise_peak_bytes)},
          {"denoise_predicted_bytes", known(r.denoise_predicted_bytes)},
          {"decode_peak_bytes", known(r.decode_peak_bytes)},
          {"decode_predicted_bytes", known(r.decode_predicted_bytes)},
          {"host_peak_bytes", known(r.host_peak_bytes)},
          {"base_bytes", known(r.base_bytes)},
          {"by_chunks", groups},
          {"rows", rows},
          {"profile", r.profile ? to_json(*r.profile, r.ceilings) : nlohmann::ordered_json()}};
}

}  // namespace longtake
