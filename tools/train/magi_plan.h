// Which windows of chunks MAGI-1 is trained on: those that its schedule (runtime/magi_schedule.h) makes, at any of its times.
#pragma once

#include <vector>

#include "models/demo/clips.h"

namespace longtake::train {

// Time of a chunk that has gone through the share `u` of its steps: the grid of magi1.md 3.3 between its points.
double magi_time(double u);

// One structure for all windows of a batch: finished chunks, then chunks in flight a quarter of the schedule apart.
struct MagiStructure {
  int history = 0;              // chunks
  bool clean_history = true;    // they ran once more, clean; else their keys are those of their last step
  std::vector<int> quarters;    // of the chunks in flight, cleanest first
  std::vector<int> first_keys;  // of every chunk, the first that it sees
  bool from_start = false;      // the window begins with the clip that the VAE sees
  bool partly_given = false;    // some of the first frames in flight may be given
  bool alone = false;           // a chunk out of the middle of a video that sees only itself

  int chunks() const { return history + static_cast<int>(quarters.size()); }
};

// A window of `chunks` chunks, 1 ... 5. copies: chunks alone are the nearly clean copies of distilled models rather than the branch of base
// models that knows no chunks before.
MagiStructure draw_structure(int chunks, bool copies, demo::Random& random);

// The share of its steps that each chunk in flight has gone through: one common place within the quarters, and a little jitter.
std::vector<double> draw_shares(const MagiStructure& structure, demo::Random& random);

}  // namespace longtake::train
