#include "runtime/magi_schedule.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace longtake::magi {
namespace {

constexpr int kMixedSteps = 12;  // the grid whose steps differ in size: 3 in each quarter

// With an empty list of key ranges there is no last part to go by; the reference's value, which only prefixes meet.
constexpr int kDefaultCleanKeys = 8;

int clean_keys(const ScheduleSettings& s) {
  if (s.clean_key_chunks > 0) return s.clean_key_chunks;
  return s.key_chunks.empty() ? kDefaultCleanKeys : s.key_chunks.back();
}

// The chunks that end with `chunk`'s own, `count` of them at most.
KeyRange last_chunks(int chunk, int count) { return {std::max(0, chunk + 1 - count), chunk + 1}; }

KeyRange keys_at(const ScheduleSettings& s, int chunk, int step) {
  if (s.key_chunks.empty()) return {0, chunk + 1};
  if (step == s.steps) return last_chunks(chunk, clean_keys(s));
  const int part = s.steps / static_cast<int>(s.key_chunks.size());
  return last_chunks(chunk, s.key_chunks.at(step / part));
}

}  // namespace

VideoSize VideoSize::of(const RunConfig& run, int prefix_frames) {
  LONGTAKE_CHECK(prefix_frames >= 0, "expected a prefix of 0 latent frames or more, found {}", prefix_frames);
  const int wanted = run.frames / run.temporal_downsample + prefix_frames;
  return {(wanted + run.chunk_frames - 1) / run.chunk_frames, prefix_frames / run.chunk_frames, prefix_frames,
          run.chunk_frames};
}

KeyRange VideoSize::emitted(int chunk) const {
  const int begin = chunk * chunk_frames, skipped = prefix_frames > 1 ? prefix_frames : 0;
  return {std::max(begin, std::min(skipped, begin + chunk_frames)), begin + chunk_frames};
}

ScheduleSettings ScheduleSettings::of(const Config& c) {
  return {c.run.steps,
          c.run.window,
          c.engine.shortcut_mode == "16,16,8",
          c.run.key_chunks,
          c.run.clean_key_chunks,
          static_cast<float>(c.run.clean_t),
          c.engine.nearly_clean_threshold};
}

std::vector<float> time_grid(const ScheduleSettings& s) {
  LONGTAKE_CHECK(s.steps > 0, "expected a step or more, found {}", s.steps);
  std::vector<float> u;
  if (s.steps == kMixedSteps) {
    const float early[] = {0, 1.0f / 8, 3.0f / 16}, late[] = {0, 1.0f / 16, 1.0f / 8};
    for (int quarter = 0; quarter < 4; ++quarter)
      for (float offset : s.long_step_last ? late : early) u.push_back(static_cast<float>(quarter) / 4 + offset);
    u.push_back(1);
  } else {
    for (int i = 0; i <= s.steps; ++i) u.push_back(static_cast<float>(i) / static_cast<float>(s.steps));
  }
  // The square, then the shift of SD3 by 3 on a clock that starts at noise; in float32 as the models were run.
  constexpr float shift = static_cast<float>(1.0 / 3), less = static_cast<float>(1.0 / 3 - 1);
  for (float& t : u) {
    const float square = t * t;
    t = shift * square / (1 + less * square);
  }
  return u;
}

double shortcut_interval(const ScheduleSettings& s, int inner_step) {
  if (s.steps != kMixedSteps) return 1;
  return inner_step % 3 == (s.long_step_last ? 2 : 0) ? 2 : 1;
}

double step_size(const ScheduleSettings& s, double interval) {
  return s.steps == kMixedSteps ? 8 / interval : static_cast<double>(s.steps) / 2;
}

std::vector<Stage> stages(const ScheduleSettings& s, const VideoSize& size) {
  LONGTAKE_CHECK(s.window > 0 && s.steps % s.window == 0, "expected steps that a window of {} divides, found {}",
                 s.window, s.steps);
  std::vector<Stage> out;
  for (int i = size.first; i < size.chunks + s.window - 1; ++i)
    out.push_back({{std::max(size.first, i - s.window + 1), std::min(size.chunks, i + 1)},
                   {std::max(0, i - size.chunks + 1), std::min(s.window, i - size.first + 1)}});
  return out;
}

std::vector<Row> rows(const ScheduleSettings& s, const VideoSize& size) {
  const std::vector<float> grid = time_grid(s);
  std::vector<Row> out;
  if (size.first > 0) {
    Row row{.prefix = true, .interval = shortcut_interval(s, 0)};
    for (int chunk = 0; chunk < size.first; ++chunk)
      row.chunks.push_back({chunk, s.steps, s.clean_t, s.clean_t, last_chunks(chunk, clean_keys(s))});
    out.push_back(std::move(row));
  }
  const int per_stage = s.steps / s.window;
  for (const Stage& stage : stages(s, size))
    for (int inner = 0; inner < per_stage; ++inner) {
      const int first = static_cast<int>(stage.chunks.begin);
      Row row{.extra_clean = s.clean_pass && first > size.first && inner == 0, .interval = shortcut_interval(s, inner)};
      if (row.extra_clean)
        row.chunks.push_back({first - 1, s.steps, s.clean_t, s.clean_t, keys_at(s, first - 1, s.steps)});
      for (int j = 0; first + j < stage.chunks.end; ++j) {
        const int step = (static_cast<int>(stage.quarters.end) - 1 - j) * per_stage + inner;
        row.chunks.push_back({first + j, step, grid.at(step), grid.at(step + 1), keys_at(s, first + j, step)});
      }
      const ChunkStep& cleanest = row.chunks.at(row.extra_clean);
      // In double: the grid's value at three quarters lies just above 0.3.
      row.nearly_clean = s.nearly_clean_copy && static_cast<double>(cleanest.t) > s.nearly_clean_threshold;
      if (cleanest.step + 1 == s.steps) row.finished = first;
      out.push_back(std::move(row));
    }
  return out;
}

}  // namespace longtake::magi
