// MAGI-1's schedule: the time grid, which chunks are in flight in a row, what each of them attends to, when chunks are
// done.
//
// Spec: magi1.md 3.2-3.6 and 2.8. Time runs from noise (0) to clean (1). All of it is known before a run starts.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/attend.h"
#include "models/magi/config.h"

namespace longtake::magi {

// Latent frames and chunks of a run.
struct VideoSize {
  int chunks = 0;         // prefix chunks included
  int first = 0;          // chunks in front of this one are prefix alone and never denoised
  int prefix_frames = 0;  // given latent frames
  int chunk_frames = 0;

  int frames() const { return chunks * chunk_frames; }
  // For `frames` new pixel frames behind `prefix_frames` latent ones.
  static VideoSize of(const RunConfig& run, int prefix_frames);
  // Latent frames [begin, end) of a finished chunk that are output: a prefix is not, unless it is a single image.
  KeyRange emitted(int chunk) const;
};

// The settings that the schedule depends on.
struct ScheduleSettings {
  int steps = 0, window = 0;
  // the 12-step grid "16,16,8" rather than "8,16,16": which of a quarter's steps is double
  bool long_step_last = false;
  std::vector<int> key_chunks;  // chunks visible, its own included, in each equal part of the steps; empty: all
  int clean_key_chunks = 1;     // the same for a finished chunk, whose list is not empty; -1: as in the last part
  float clean_t = 0.9999f;
  double nearly_clean_threshold = 0.3;
  // A finished chunk runs once more, clean and without a text, so that later chunks read clean keys. Off, they read
  // those of its last computed step.
  bool clean_pass = true;
  bool nearly_clean_copy = true;  // see Row::nearly_clean; off, no row has it

  static ScheduleSettings of(const Config& config);
};

// steps + 1 values from 0 to 1 (1.0000001 in float32). Twelve steps take a mixed grid.
std::vector<float> time_grid(const ScheduleSettings& settings);

// How much of the model's finest step each of a quarter's steps makes up: 1, or 2 for the double steps of the 12-step
// grid.
double shortcut_interval(const ScheduleSettings& settings, int inner_step);
// The step size that a distilled model is told: half the number of steps, or what the 12-step grid stands for.
double step_size(const ScheduleSettings& settings, double interval);

// Window position `stage`: chunks in flight and the quarters of the schedule that they are in, cleanest chunk first.
struct Stage {
  KeyRange chunks, quarters;
};
std::vector<Stage> stages(const ScheduleSettings& settings, const VideoSize& size);

// One chunk of a row.
struct ChunkStep {
  int chunk = 0;
  int step = 0;             // of the chunk; the number of steps where it is finished
  float t = 0, t_next = 0;  // equal where it is finished
  KeyRange keys;            // in chunks of the video
};

// One line of the schedule.
struct Row {
  bool prefix = false;       // no step: prefix chunks run once for their keys
  bool extra_clean = false;  // the first chunk is a finished one that runs once more for its keys
  // the first chunk in flight is beyond the threshold: distilled models run a copy that sees only itself
  bool nearly_clean = false;
  double interval = 1;              // shortcut_interval
  std::vector<ChunkStep> chunks{};  // neighbours, cleanest first
  int finished = -1;                // the chunk that is done after this row
};
std::vector<Row> rows(const ScheduleSettings& settings, const VideoSize& size);

}  // namespace longtake::magi
