// A plan: every decision of a run, recorded from one or written by hand, to be replayed on any model or device.
//
// A plan is a list of entries; an entry says for which windows, chunks, steps and branches (all counted from 0, each left out for
// "every") it holds, which tokens are recomputed there and what becomes of the rest. Where several entries hold, the last one
// counts: general ones first, exceptions after them.
//
// Token sets without positions (none, all, a fraction) fit any picture size. Columns and lists name positions: they fit runs whose
// latent frames have as many tokens as the plan's.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cache/policy.h"

namespace longtake {

// first, first + every, ..., up to last.
struct PlanRange {
  static constexpr int unbounded = std::numeric_limits<int>::max();
  int first = 0, last = unbounded, every = 1;

  bool holds(int i) const { return i >= first && i <= last && (i - first) % every == 0; }
  bool operator==(const PlanRange&) const = default;
};

struct PlanTokens {
  enum class Kind { none, all, columns, list, fraction };
  Kind kind = Kind::all;
  std::vector<std::pair<int64_t, int64_t>> ranges = {};  // columns, list: [first, last], ascending and apart
  double fraction = 0;                              // of a frame's columns, chosen by `seed` for each window, chunk and step
  uint64_t seed = 0;

  static PlanTokens of(const TokenSet& set);
  // The set for one chunk in one step. A fraction takes round(fraction * plane) columns: those whose Philox words, under the key
  // `seed` and the counter {column, step, chunk, window}, are smallest.
  TokenSet set(int window, int chunk, int step, int64_t plane) const;
  double share(int64_t frames, int64_t plane) const;  // of the chunk's tokens
  bool positions() const { return kind == Kind::columns || kind == Kind::list; }
  bool operator==(const PlanTokens&) const = default;
};

struct PlanEntry {
  PlanRange window, chunk, step, branch;
  PlanTokens tokens = {};
  Rest rest = Rest::reuse;
  double clip = 1;                 // of predictions, see Decision
  std::optional<Phase> phase = {};      // for statistics; by default full, chunk or token after the set's kind
  std::optional<double> distance = {};  // as it was measured; information only

  bool operator==(const PlanEntry&) const = default;
};

// What a plan was recorded on, or what it is to be replayed on.
struct PlanGeometry {
  int64_t plane = 0;  // tokens of one latent frame
  int steps = 0, branches = 0;
  struct Window {
    std::vector<int64_t> frames = {};  // latent frames by chunk
    int prefix = 0;               // finished chunks at its start; no decisions are made on them
    bool operator==(const Window&) const = default;
  };
  std::vector<Window> windows = {};
  bool together = false;  // of a run: all chunks take their first step in the first row (no plan says so)

  bool operator==(const PlanGeometry&) const = default;
};

struct Plan {
  std::string comment;
  AttentionScheme attention = AttentionScheme::causal;
  bool extras = false;  // MAGI-1: with what upstream runs beside a chunk's steps, as base_key (latent_base.h)
  std::optional<PlanGeometry> geometry;  // none where it is written by hand for any run
  std::vector<PlanEntry> entries;

  // nullptr where no entry holds.
  const PlanEntry* find(int window, int chunk, int step, int branch) const;
  bool operator==(const Plan&) const = default;
};

// Throws (usage) with the reason why the plan cannot be replayed on such a run: positions for another plane, another number of steps,
// windows, chunks or steps that it says nothing about, or a first step that is not computed. A run may have fewer windows, chunks or
// branches than the plan. `name` is the plan's file.
void check_plan(const Plan& plan, const PlanGeometry& run, const std::string& name);

// Shares recomputed, to look at.
struct PlanCell {
  bool known = false;
  double share = 0;  // mean over the branches
  Rest rest = Rest::reuse;
};
struct PlanGrid {
  int steps = 0;
  struct Row {
    int window = 0, chunk = 0;
    int64_t frames = 1;
    bool prefix = false;
    std::vector<PlanCell> cells = {};  // by step
  };
  std::vector<Row> rows = {};

  double share() const;  // of all tokens that the known cells stand for
};
// Without a geometry the grid reaches as far as the entries' ranges do. Errors: bad_file for more than 4 million cells.
PlanGrid plan_grid(const Plan& plan);

}  // namespace longtake
