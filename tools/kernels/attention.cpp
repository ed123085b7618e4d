#include "tools/kernels/attention.h"

#include <ATen/ops/randn.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "attention/planned_attention.h"
#include "tools/kernels/timing.h"

namespace longtake::bench {
namespace {

constexpr int64_t kHeads = 12, kWidth = 128, kChunk = 10200, kChunks = 5, kBranches = 2, kPlace = 51200;
constexpr double kSeconds = 1;

struct Call {
  std::vector<Sequence> sequences;
  int64_t room;
};

double flops_of(const std::vector<Call>& calls, int64_t queries) {
  double flops = 0;
  for (const Call& call : calls)
    for (const Sequence& s : call.sequences) flops += 4.0 * static_cast<double>(queries * s.k.size(0)) * kHeads * kWidth;
  return flops;
}

// Milliseconds of the last half of kSeconds.
double sustained_ms(const std::function<void()>& run) {
  run();
  const double once = timed(run);
  const int rounds = std::max(2, static_cast<int>(kSeconds * 1e3 / once / 2));
  const auto many = [&] {
    for (int i = 0; i < rounds; ++i) run();
  };
  timed(many);
  return timed(many) / rounds;
}

void compare(const char* name, const std::vector<Call>& padded, int64_t queries, PlannedAttention& ours, PlannedAttention& theirs) {
  const double flops = flops_of(padded, queries);
  std::vector<Sequence> all;
  for (const Call& call : padded)
    for (const Sequence& s : call.sequences) all.push_back({s.q.narrow(0, 0, queries), s.k, s.v, {}});
  if (!ours.joins(all)) {
    std::printf("  %-44s  our kernel does not take it\n", name);
    return;
  }
  const auto flash = [&] { ours.together(all); };
  const auto plans = [&] {
    for (const Call& call : padded) theirs.together(call.sequences, call.room);
  };
  std::printf("  %-44s", name);
  const double plans_ms = sustained_ms(plans), flash_ms = sustained_ms(flash);
  std::printf("  cuDNN %8.3f ms %6.1f TFLOP/s, ours %8.3f ms %6.1f TFLOP/s\n", plans_ms, flops / plans_ms / 1e9, flash_ms, flops / flash_ms / 1e9);
  std::fflush(stdout);
}

}  // namespace

void time_attention() {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat8_e4m3fn}) {
    PlannedAttention ours(kGpu), theirs(kGpu, PlannedAttention::Kernels::cudnn);
    for (PlannedAttention* attention : {&ours, &theirs}) {
      const std::string& why = attention->try_out(dtype, kHeads, kWidth);
      if (!why.empty()) std::printf("  REFUSED: %s\n", why.c_str());
    }
    const auto rows = [&](int64_t count) { return at::randn({count, kHeads, kWidth}, at::TensorOptions().dtype(at::kFloat).device(kGpu)).to(dtype); };
    const at::Tensor q = rows(kBranches * kPlace + 2048), k = rows(kBranches * kPlace), v = rows(kBranches * kPlace);
    const auto call = [&](int64_t first, int64_t queries, int64_t keys) {
      Call c{{}, kPlace};
      for (int64_t branch = 0; branch < kBranches; ++branch)
        c.sequences.push_back({q.narrow(0, branch * kPlace + first, padded(queries)), k.narrow(0, branch * kPlace, keys),
                               v.narrow(0, branch * kPlace, keys), {}});
      return c;
    };
    std::printf("\nattention of a layer in %s, two branches\n", c10::toString(dtype));
    for (const int64_t queries : {kChunk, kChunk * 7 / 10}) {
      std::vector<Call> row;
      for (int64_t c = 0; c < kChunks; ++c) row.push_back(call(c * kChunk, queries, (c + 1) * kChunk));
      compare(queries == kChunk ? "row of five chunks" : "the same, 70 % of their tokens", row, queries, ours, theirs);
    }
    compare("one chunk on its own keys", {call(0, kChunk, kChunk)}, kChunk, ours, theirs);
    for (const int64_t keys : {256, 512, 1024, 2048, 4096}) {
      char name[64];
      std::snprintf(name, sizeof name, "one chunk on %lld keys", static_cast<long long>(keys));
      compare(name, {call(0, kChunk, keys)}, kChunk, ours, theirs);
    }
  }
}

}  // namespace longtake::bench
