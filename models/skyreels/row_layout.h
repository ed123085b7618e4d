// How the items of a row lie behind one another in one batch of packed tokens, and which of its rows attend together.
#pragma once

#include <span>
#include <vector>

#include "models/backbone.h"

namespace longtake::skyreels {

struct RowLayout {
  // Neighbouring items that one call can serve: packed rows [begin, begin + rows).
  struct Run {
    int branch = 0;
    int64_t begin = 0, rows = 0;
    KeyRange keys;
    int text = 0;  // of branch 0: which of the prompts (WindowGeometry::Chunk::text)
  };
  int64_t rows = 0;
  std::vector<int64_t> rows_of_item;
  std::vector<Run> self;      // one branch and one key range each
  std::vector<Run> branches;  // one branch each
  std::vector<Run> texts;     // one branch and one text each

  // All of the row's branches compute the same tokens of the same inputs, with the same timesteps and keys.
  bool branches_agree = false;

  // Checks items and inputs against the geometry (Backbone::forward): Error (internal) with expected and found.
  RowLayout(std::span<const WorkItem> items, std::span<const at::Tensor> inputs, const WindowGeometry& geometry);

  // Before the row writes its keys and values: tells the cache where it makes its branches differ (KvCache::branches_agree).
  void settle_branches(KvCache& kv) const;
};

// Timesteps embed once where they are equal: frames of a chunk nearly always share theirs.
struct DistinctTimesteps {
  std::vector<double> values;
  std::vector<int64_t> index;  // of each timestep given, into values

  explicit DistinctTimesteps(std::span<const double> timesteps);
};

}  // namespace longtake::skyreels
