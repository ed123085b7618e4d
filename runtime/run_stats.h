// What a run computed, reused and predicted: by window, chunk and phase, in tokens and FLOPs. Both branches are counted.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>

#include "cache/policy.h"
#include "cache/state.h"

namespace longtake {

struct WorkCount {
  int64_t recomputed = 0;   // tokens that went through the transformer
  int64_t reused = 0;       // tokens whose residual was reused
  int64_t predicted = 0;    // tokens whose residual was predicted
  double flops = 0;         // 2 * multiply-adds of the transformer blocks
  double flops_saved = 0;   // what computing every token would have added

  WorkCount& operator+=(const WorkCount& other) {
    recomputed += other.recomputed;
    reused += other.reused;
    predicted += other.predicted;
    flops += other.flops;
    flops_saved += other.flops_saved;
    return *this;
  }
  // Of all tokens, those that did not go through the transformer.
  double saved_share() const {
    const int64_t saved = reused + predicted, all = recomputed + saved;
    return all == 0 ? 0.0 : static_cast<double>(saved) / static_cast<double>(all);
  }
};

struct RunStats {
  std::map<std::tuple<int, int, Phase>, WorkCount> by_chunk;  // (window, chunk, phase)
  int64_t kv_bytes = 0;       // keys and values held at once, at most
  double kv_row_bytes = 0;    // the sum over all rows of what they held
  int64_t kv_rows = 0;
  int64_t kv_full_bytes = 0;  // of the largest window without compression
  double mean_kv_bytes() const { return kv_rows == 0 ? 0.0 : kv_row_bytes / static_cast<double>(kv_rows); }
  double denoise_seconds = 0, decode_seconds = 0, encode_seconds = 0;
  double checkpoint_seconds = 0;  // of writing to the run folder, most of it within denoise_seconds

  WorkCount total() const {
    WorkCount sum;
    for (const auto& [key, count] : by_chunk) sum += count;
    return sum;
  }

  // "stats/...": counts, K/V bytes, and the seconds of denoising, encoding and checkpoints; what is decoded again after a resume counts again.
  void save(State& state) const;
  void load(const State& state);
};

}  // namespace longtake
