#include "apps/run_progress.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace longtake {

JsonLog::JsonLog(const std::string& path) {
  if (path.empty()) return;
  file_.open(path);
  if (!file_) fail_file("{} cannot be written; choose another --json-log", path);
}

void JsonLog::event(const nlohmann::ordered_json& line) {
  const std::lock_guard lock(mutex_);
  if (file_.is_open()) file_ << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n' << std::flush;
}

RunProgress::RunProgress(Progress& progress, JsonLog& log, RunLayout layout, std::string title)
    : progress_(progress), log_(log), layout_(std::move(layout)), title_(std::move(title)) {
  const size_t windows = layout_.windows.size();
  progress.stage(fmt::format("{}denoising {} window{} in {} rows", title_, windows, windows == 1 ? "" : "s", layout_.rows()));
  progress.rows_begin(layout_.rows());
}

GenerateHooks RunProgress::hooks() {
  GenerateHooks hooks;
  hooks.on_window_start = [this](int window) {
    window_ = window;
    const RunLayout::Window& w = layout_.windows[window];
    log_.event({{"event", "window"}, {"window", window}, {"rows", w.rows}, {"latent_frames", w.latent_frames()}});
  };
  hooks.denoise.on_decision = [this](const DecisionRecord& record) { on_decision(record); };
  hooks.denoise.on_row = [this](int row, int) { on_row(row); };
  return hooks;
}

void RunProgress::on_decision(const DecisionRecord& d) {
  const bool first = row_tokens_ == 0;
  row_tokens_ += d.tokens;
  row_recomputed_ += d.recomputed;
  all_tokens_ += d.tokens;
  all_recomputed_ += d.recomputed;
  first_chunk_ = first ? d.chunk : std::min(first_chunk_, d.chunk);
  last_chunk_ = first ? d.chunk : std::max(last_chunk_, d.chunk);
  if (d.chunk == first_chunk_) step_ = d.step;
}

void RunProgress::on_row(int row) {
  const double reused = all_tokens_ == 0 ? 0 : 1 - static_cast<double>(all_recomputed_) / static_cast<double>(all_tokens_);
  const int steps = layout_.windows[window_].steps;
  progress_.row_done(fmt::format("{}window {}/{}  chunks {}-{}  step {}/{}", title_, window_ + 1, layout_.windows.size(),
                                 first_chunk_ + 1, last_chunk_ + 1, std::min(step_ + 1, steps), steps),
                     reused);
  log_.event({{"event", "row"}, {"window", window_}, {"row", row}, {"tokens", row_tokens_}, {"recomputed", row_recomputed_},
              {"seconds", progress_.seconds()}});
  row_tokens_ = row_recomputed_ = 0;
}

}  // namespace longtake
