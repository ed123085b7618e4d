#include "runtime/run_stats.h"

namespace longtake {
namespace {

constexpr double kMaxCount = 9007199254740992.0;  // 2^53
constexpr size_t kKeys = 3, kCounts = 5;  // window, chunk, phase; recomputed, reused, predicted, FLOPs, FLOPs saved

}  // namespace

void RunStats::save(State& state) const {
  std::vector<int64_t> keys;
  std::vector<double> counts;
  for (const auto& [key, count] : by_chunk) {
    const auto& [window, chunk, phase] = key;
    keys.insert(keys.end(), {window, chunk, static_cast<int64_t>(phase)});
    // Token counts stay far below 2^53, where doubles are exact.
    counts.insert(counts.end(), {static_cast<double>(count.recomputed), static_cast<double>(count.reused),
                                 static_cast<double>(count.predicted), count.flops, count.flops_saved});
  }
  state.put_integers("stats/keys", keys);
  state.put_numbers("stats/counts", counts);
  state.put_integers("stats/kv", {kv_bytes, kv_rows, kv_full_bytes});
  state.put_numbers("stats/kv_row_bytes", {kv_row_bytes});
  state.put_numbers("stats/seconds", {denoise_seconds, encode_seconds, checkpoint_seconds});
}

void RunStats::load(const State& state) {
  const auto keys = state.integers("stats/keys");
  if (keys.size() % kKeys != 0) state.refuse("'stats/keys' should hold three numbers a line");
  const size_t lines = keys.size() / kKeys;
  const auto counts = state.numbers("stats/counts", lines * kCounts);
  by_chunk.clear();
  for (size_t i = 0; i < lines; ++i) {
    const int64_t phase = keys[kKeys * i + 2];
    if (phase < 0 || phase > static_cast<int64_t>(Phase::token)) state.refuse("'stats/keys' names an unknown phase");
    const double* count = &counts[kCounts * i];
    if (!std::all_of(count, count + 3, [](double n) { return n >= 0 && n < kMaxCount; })) state.refuse("'stats/counts' should hold numbers of tokens");
    by_chunk[{static_cast<int>(keys[kKeys * i]), static_cast<int>(keys[kKeys * i + 1]), static_cast<Phase>(phase)}] = {
        static_cast<int64_t>(count[0]), static_cast<int64_t>(count[1]), static_cast<int64_t>(count[2]), count[3], count[4]};
  }
  const auto kv = state.integers("stats/kv", 3);
  kv_bytes = kv[0];
  kv_rows = kv[1];
  kv_full_bytes = kv[2];
  kv_row_bytes = state.numbers("stats/kv_row_bytes", 1)[0];
  const auto seconds = state.numbers("stats/seconds", 3);
  denoise_seconds = seconds[0];
  encode_seconds = seconds[1];
  checkpoint_seconds = seconds[2];
}

}  // namespace longtake
