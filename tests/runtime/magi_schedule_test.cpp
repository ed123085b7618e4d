// MAGI-1's schedule and guidance: properties that hold for any setting, and the published step sizes.
#include "runtime/magi_schedule.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/randn.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "models/magi/backbone.h"
#include "runtime/magi_guidance.h"
#include "runtime/magi_step.h"
#include "tests/catch.h"

using namespace longtake;

namespace {

magi::Config config(bool distilled) {
  magi::Config c;
  c.run.guidance_times = {0, 0.0217, 0.1, 0.3, 0.999};
  c.run.prev_chunk_scales = {1.5, 1.5, 1.5, 1, 1};
  c.run.text_scales = {7.5, 7.5, 7.5, 0, 0};
  c.run.chunk_frames = 6;
  c.run.temporal_downsample = 4;
  c.engine.distilled = distilled;
  return c;
}

magi::ScheduleSettings settings(int steps, int window) {
  return {.steps = steps, .window = window, .key_chunks = {5, 4, 3, 2}};
}

}  // namespace

TEST_CASE("MAGI-1: every chunk takes every step once, in order, and is then finished") {
  for (const int window : {1, 2, 4})
    for (const int first : {0, 2}) {
      const magi::VideoSize size{.chunks = first + 3, .first = first, .prefix_frames = 6 * first, .chunk_frames = 6};
      const auto s = settings(16, window);
      std::map<int, int> next;
      std::vector<int> finished;
      for (const magi::Row& row : magi::rows(s, size)) {
        for (const magi::ChunkStep& c : row.chunks) {
          CHECK(c.keys.end == c.chunk + 1);
          CHECK(c.keys.begin >= 0);
          if (c.step == s.steps) continue;
          CHECK(c.step == next[c.chunk]++);
          CHECK(c.t_next > c.t);
        }
        if (row.finished >= 0) {
          CHECK(next[row.finished] == s.steps);
          finished.push_back(row.finished);
        }
      }
      CHECK(finished == std::vector<int>{first, first + 1, first + 2});
    }
}

TEST_CASE("MAGI-1: sizes of videos, and what of a chunk is output") {
  magi::RunConfig run = config(false).run;
  run.frames = 96;
  CHECK(magi::VideoSize::of(run, 0).chunks == 4);
  CHECK(magi::VideoSize::of(run, 1).chunks == 5);
  const auto video = magi::VideoSize::of(run, 8);
  CHECK(video.chunks == 6);
  CHECK(video.first == 1);
  CHECK(video.emitted(1) == KeyRange{8, 12});
  CHECK(video.emitted(2) == KeyRange{12, 18});
  CHECK(magi::VideoSize::of(run, 1).emitted(0) == KeyRange{0, 6});
}

TEST_CASE("MAGI-1: step sizes") {
  auto s = settings(64, 4);
  CHECK(magi::step_size(s, magi::shortcut_interval(s, 3)) == 32);
  s.steps = 12;
  CHECK(magi::step_size(s, magi::shortcut_interval(s, 0)) == 4);
  CHECK(magi::step_size(s, magi::shortcut_interval(s, 1)) == 8);
  s.long_step_last = true;
  CHECK(magi::step_size(s, magi::shortcut_interval(s, 0)) == 8);
  CHECK(magi::step_size(s, magi::shortcut_interval(s, 2)) == 4);
  CHECK_THROWS_AS(magi::stages(settings(10, 4), {.chunks = 2, .chunk_frames = 6}), Error);
}

TEST_CASE("MAGI-1: branches without weight are left out, and the guided velocity is their weighted sum") {
  const auto c = config(false);
  const auto s = settings(16, 4);
  const magi::VideoSize size{.chunks = 6, .first = 1, .prefix_frames = 6, .chunk_frames = 6};
  bool seen_last_quarter = false;
  for (const magi::Row& row : magi::rows(s, size)) {
    const auto items = magi::work_items(row, s, c, 100);
    std::vector<at::Tensor> velocities;
    std::map<int, std::map<int, at::Tensor>> by_chunk;
    for (const WorkItem& item : items) {
      velocities.push_back(item.finished ? at::Tensor() : at::randn({2}));
      by_chunk[item.chunk][item.branch] = velocities.back();
      CHECK(item.writes_kv == (item.branch == 1));
      CHECK(item.step_size == 0);
    }
    const auto guided = magi::guided_velocities(row, c, items, velocities);
    REQUIRE(guided.size() == (row.prefix ? 0 : row.chunks.size() - row.extra_clean));
    for (size_t i = 0; i < guided.size(); ++i) {
      const magi::ChunkStep& chunk = row.chunks[i + row.extra_clean];
      auto& v = by_chunk[chunk.chunk];
      CHECK(v.contains(2) == (chunk.t < 0.29f));
      const at::Tensor want = chunk.t < 0.29f ? -0.5 * v[2] - 6 * v[1] + 7.5 * v[0] : v[1];
      CHECK(at::allclose(guided[i], want, 1e-4, 1e-5));
    }
    if (row.prefix) CHECK(items.size() == 1);
    if (row.chunks.back().t > 0.29f) {
      seen_last_quarter = true;
      for (const WorkItem& item : items) CHECK(item.branch == 1);
    }
  }
  CHECK(seen_last_quarter);
}

TEST_CASE("MAGI-1: a distilled model copies the nearly clean chunk where it saw others") {
  const auto c = config(true);
  const auto s = settings(16, 4);
  for (const magi::Row& row : magi::rows(s, {.chunks = 3, .chunk_frames = 6})) {
    const auto items = magi::work_items(row, s, c, 100);
    const magi::ChunkStep& first = row.chunks.at(row.extra_clean);
    const bool copies = first.t > 0.3 && first.keys.begin < first.chunk;
    REQUIRE(items.size() == row.chunks.size() + copies);
    for (const WorkItem& item : items) CHECK(item.step_size == 8);
    if (!copies) continue;
    CHECK(items.back().branch == 1);
    CHECK(items.back().keys == KeyRange{first.chunk * 100, first.chunk * 100 + 100});
    CHECK_FALSE(items.back().writes_kv);
  }
}

namespace {

// What a run of the published 4.5B distilled model at 720x720 computes, of FLOPs without cross attention (whose length is the prompt's).
struct Cost {
  double petaflops = 0;
  int steps = 0, chunks = 0, copies = 0, clean = 0;
};

magi::ModelConfig published() {
  magi::ModelConfig model;
  model.layers = 34, model.dim = 3072, model.ffn_dim = 12288, model.heads = 24, model.kv_heads = 8, model.head_width = 128;
  return model;
}

constexpr int64_t kChunkTokens = 6 * 45 * 45;

double petaflops(int64_t keys) { return magi::transformer_flops(published(), kChunkTokens, keys, 0) / 1e15; }

Cost cost_of(int frames, magi::ScheduleSettings s) {
  magi::Config c = config(true);
  c.run.frames = frames;
  Cost cost;
  for (const magi::Row& row : magi::rows(s, magi::VideoSize::of(c.run, 0))) {
    ++cost.steps;
    for (const WorkItem& item : magi::work_items(row, s, c, kChunkTokens)) {
      const bool copy = item.branch == 1;
      ++(item.finished ? cost.clean : copy ? cost.copies : cost.chunks);
      cost.petaflops += petaflops(item.keys.end - item.keys.begin);
    }
  }
  return cost;
}

}  // namespace

TEST_CASE("MAGI-1: what the published set-ups compute") {
  const double copy = petaflops(kChunkTokens);
  magi::ScheduleSettings s = settings(64, 4);
  // MotionCache's: 168 frames. A chunk's copies begin at three quarters of its steps, where t is 0.3 but for float32's last bit, which
  // makes it more: 16 copies a chunk. The published 139 PFLOP are those of 15. Chunk 0 sees only itself then, so that its copies are
  // left out.
  CHECK(cost_of(168, s).copies == 6 * 16);
  s.nearly_clean_threshold = 0.3001;
  const Cost all = cost_of(168, s);
  CHECK(all.steps == 160);
  CHECK(all.chunks == 448);
  CHECK(all.clean == 6);
  CHECK(all.copies + 15 == 105);
  CHECK(std::abs(all.petaflops + 15 * copy - 139.0) < 0.05);
  s.clean_pass = s.nearly_clean_copy = false;
  const Cost causal = cost_of(168, s);
  CHECK(causal.chunks == 448);
  CHECK(causal.copies + causal.clean == 0);
  CHECK(std::abs(causal.petaflops - 121.2) < 0.05);
  // FlowCache's: 240 frames, each chunk attending to all before it, finished ones to themselves.
  s = settings(64, 4);
  s.nearly_clean_threshold = 0.3001;
  s.key_chunks = {10, 10, 10, 10};
  CHECK(std::abs(cost_of(240, s).petaflops + 15 * copy - 305.8) < 0.05);
}
