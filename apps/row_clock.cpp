#include "apps/row_clock.h"

#include <algorithm>

#include "base/error.h"
#include "runtime/device_timer.h"

namespace longtake {

void WatchedRows::check(int planned) const {
  const int run = limit > 0 ? std::min(limit, planned) : planned;
  if (profiled > run) fail_usage("--profile {}: the run has {} rows", profiled, run);
}

RowClock::RowClock(BenchResult& result, const at::Device& device, const WatchedRows& rows)
    : result_(result), device_(device), rows_(rows), profiler_(device), memory_(device) {}

void RowClock::begin_window(int window) {
  window_ = window;
  decode_ended();
  begin_row();
}

void RowClock::decided(const DecisionRecord& record) {
  if (record.update && record.branch == 0) ++chunks_;
}

void RowClock::begin_decoding() { memory_.emplace(device_), decoding_ = true; }

void RowClock::decode_ended() {
  if (decoding_) result_.decode_peak_bytes = std::max(result_.decode_peak_bytes, memory_->bytes());
  decoding_ = false;
  memory_.emplace(device_);
}

void RowClock::begin_row() {
  synchronize(device_);
  chunks_ = 0;
  if (is_profiled()) profiler_.begin();
  begin_ = Clock::now();
}

void RowClock::row_ended(const RowEnd& end) {
  synchronize(device_);
  BenchRow row{window_, end.row, chunks_, {}, std::chrono::duration<double>(Clock::now() - begin_).count()};
  if (is_profiled()) result_.profile = profiler_.end(window_, end.row);
  const WorkCount all = end.stats.total(), before = result_.stats.total();
  row.work = {all.recomputed - before.recomputed, all.reused - before.reused, all.predicted - before.predicted,
              all.flops - before.flops, all.flops_saved - before.flops_saved};
  result_.rows.push_back(row);
  result_.stats = end.stats;
  result_.denoise_peak_bytes = std::max(result_.denoise_peak_bytes, memory_->bytes());
  if (static_cast<int>(result_.rows.size()) == rows_.limit && rows_.limit < result_.rows_planned) throw EnoughRows{};
  begin_row();
}

}  // namespace longtake
