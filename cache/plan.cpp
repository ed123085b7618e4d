#include "cache/plan.h"

#include <ATen/ops/empty.h>

#include "base/error.h"
#include "base/philox.h"

namespace longtake {
namespace {

constexpr int64_t kMaxCells = 4'000'000;

at::Tensor indices_of(const std::vector<std::pair<int64_t, int64_t>>& ranges) {
  int64_t count = 0;
  for (const auto& [first, last] : ranges) count += last - first + 1;
  const at::Tensor out = at::empty({count}, at::kLong);
  int64_t* next = out.mutable_data_ptr<int64_t>();
  for (const auto& [first, last] : ranges)
    for (int64_t i = first; i <= last; ++i) *next++ = i;
  return out;
}

std::vector<std::pair<int64_t, int64_t>> ranges_of(const at::Tensor& index) {
  const at::Tensor host = index.cpu().contiguous();
  const int64_t* data = host.const_data_ptr<int64_t>();
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (int64_t i = 0; i < host.numel(); ++i) {
    if (!ranges.empty() && data[i] == ranges.back().second + 1)
      ++ranges.back().second;
    else
      ranges.push_back({data[i], data[i]});
  }
  return ranges;
}

int64_t columns_of(double fraction, int64_t plane) { return std::llround(fraction * static_cast<double>(plane)); }

TokenSet chosen_columns(int64_t count, uint64_t seed, int window, int chunk, int step, int64_t plane) {
  if (count <= 0) return TokenSet::none();
  if (count >= plane) return TokenSet::all();
  std::vector<std::pair<uint64_t, int64_t>> order;
  for (int64_t column = 0; column < plane; ++column) {
    const auto words = philox4x32_10({static_cast<uint32_t>(column), static_cast<uint32_t>(step), static_cast<uint32_t>(chunk),
                                      static_cast<uint32_t>(window)},
                                     {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    order.push_back({uint64_t{words[0]} << 32 | words[1], column});
  }
  std::nth_element(order.begin(), order.begin() + count - 1, order.end());
  std::vector<int64_t> columns;
  for (int64_t i = 0; i < count; ++i) columns.push_back(order[static_cast<size_t>(i)].second);
  std::sort(columns.begin(), columns.end());
  const at::Tensor index = at::empty({count}, at::kLong);
  std::copy(columns.begin(), columns.end(), index.mutable_data_ptr<int64_t>());
  return TokenSet::columns(index);
}

std::string place(int window, int chunk, int step) {
  return fmt::format("window {}, chunk {}, step {} (counted from 0)", window, chunk, step);
}

}  // namespace

PlanTokens PlanTokens::of(const TokenSet& set) {
  switch (set.kind()) {
    case TokenSet::Kind::none: return {.kind = Kind::none};
    case TokenSet::Kind::all: return {.kind = Kind::all};
    case TokenSet::Kind::columns: return {.kind = Kind::columns, .ranges = ranges_of(set.index())};
    case TokenSet::Kind::list: return {.kind = Kind::list, .ranges = ranges_of(set.index())};
  }
  return {};
}

TokenSet PlanTokens::set(int window, int chunk, int step, int64_t plane) const {
  switch (kind) {
    case Kind::none: return TokenSet::none();
    case Kind::all: return TokenSet::all();
    case Kind::columns: return TokenSet::columns(indices_of(ranges));
    case Kind::list: return TokenSet::list(indices_of(ranges));
    case Kind::fraction: return chosen_columns(columns_of(fraction, plane), seed, window, chunk, step, plane);
  }
  return TokenSet::all();
}

double PlanTokens::share(int64_t frames, int64_t plane) const {
  int64_t count = 0;
  for (const auto& [first, last] : ranges) count += last - first + 1;
  switch (kind) {
    case Kind::none: return 0;
    case Kind::all: return 1;
    case Kind::columns: return static_cast<double>(count) / static_cast<double>(plane);
    case Kind::list: return static_cast<double>(count) / static_cast<double>(frames * plane);
    case Kind::fraction: return fraction;
  }
  return 0;
}

const PlanEntry* Plan::find(int window, int chunk, int step, int branch) const {
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry)
    if (entry->window.holds(window) && entry->chunk.holds(chunk) && entry->step.holds(step) && entry->branch.holds(branch)) return &*entry;
  return nullptr;
}

void check_plan(const Plan& plan, const PlanGeometry& run, const std::string& name) {
  if (plan.geometry && plan.geometry->steps != run.steps)
    fail_usage("{} was recorded with {} steps and this run has {}; use --steps {}, or a plan made for this run", name, plan.geometry->steps,
               run.steps, plan.geometry->steps);
  for (int w = 0; w < static_cast<int>(run.windows.size()); ++w) {
    const PlanGeometry::Window& window = run.windows[static_cast<size_t>(w)];
    for (int c = window.prefix; c < static_cast<int>(window.frames.size()); ++c)
      for (int s = 0; s < run.steps; ++s)
        for (int b = 0; b < run.branches; ++b) {
          const PlanEntry* entry = plan.find(w, c, s, b);
          if (entry == nullptr)
            fail_usage("{} says nothing about {}; use a plan that covers this run's {} window{}, or shorten the run", name, place(w, c, s),
                       run.windows.size(), run.windows.size() == 1 ? "" : "s");
          // With full attention, chunks that wait have run before their first step.
          const bool waited = plan.attention == AttentionScheme::window && c > window.prefix && !run.together;
          const bool must_compute = s == 0 && !waited;
          if (must_compute && entry->tokens.kind != PlanTokens::Kind::all)
            fail_usage("{} does not compute all tokens in {}, where nothing can be reused yet; let step 0 compute \"all\"", name,
                       place(w, c, s));
          if (!entry->tokens.positions()) continue;
          const int64_t plane = plan.geometry ? plan.geometry->plane : 0;
          if (plane != run.plane)
            fail_usage("{} names positions among {} tokens of a latent frame and this run's frames have {}; use the size it was recorded "
                       "at, or a plan of fractions",
                       name, plane, run.plane);
          const int64_t tokens = entry->tokens.kind == PlanTokens::Kind::list ? run.plane * window.frames[static_cast<size_t>(c)] : run.plane;
          if (entry->tokens.ranges.back().second >= tokens)
            fail_usage("{} names token {} in {}, which has {}; use a plan made for chunks of this length", name,
                       entry->tokens.ranges.back().second, place(w, c, s), tokens);
        }
  }
}

PlanGrid plan_grid(const Plan& plan) {
  PlanGeometry g;
  if (plan.geometry) {
    g = *plan.geometry;
  } else {
    // As far as the entries reach.
    const auto extent = [&](PlanRange PlanEntry::*range) {
      int count = 1;
      for (const PlanEntry& entry : plan.entries) {
        const PlanRange& r = entry.*range;
        count = std::max(count, 1 + (r.last == PlanRange::unbounded ? r.first : r.last));
      }
      return count;
    };
    g = {.plane = 1, .steps = extent(&PlanEntry::step), .branches = extent(&PlanEntry::branch), .windows = {}};
    const int64_t chunks = extent(&PlanEntry::chunk), windows = extent(&PlanEntry::window);
    if (chunks * windows > kMaxCells) fail_file("the plan reaches over {} chunks; more than {} cannot be drawn", chunks * windows, kMaxCells);
    g.windows.assign(static_cast<size_t>(windows), {std::vector<int64_t>(static_cast<size_t>(chunks), 1), 0});
  }
  int64_t cells = 0;
  for (const auto& window : g.windows) cells += static_cast<int64_t>(window.frames.size()) * g.steps;
  if (cells > kMaxCells) fail_file("the plan has {} chunk steps; more than {} cannot be drawn", cells, kMaxCells);

  PlanGrid grid{.steps = g.steps, .rows = {}};
  for (size_t w = 0; w < g.windows.size(); ++w)
    for (size_t c = 0; c < g.windows[w].frames.size(); ++c) {
      PlanGrid::Row row{static_cast<int>(w), static_cast<int>(c), g.windows[w].frames[c], static_cast<int>(c) < g.windows[w].prefix, {}};
      row.cells.resize(static_cast<size_t>(g.steps));
      for (int s = 0; s < g.steps && !row.prefix; ++s) {
        PlanCell& cell = row.cells[static_cast<size_t>(s)];
        int found = 0;
        for (int b = 0; b < g.branches; ++b)
          if (const PlanEntry* entry = plan.find(row.window, row.chunk, s, b)) {
            ++found;
            cell.share += entry->tokens.share(g.windows[w].frames[c], g.plane);
            cell.rest = entry->rest;
          }
        cell.known = found > 0;
        if (found > 0) cell.share /= found;
      }
      grid.rows.push_back(std::move(row));
    }
  return grid;
}

double PlanGrid::share() const {
  double sum = 0, weight = 0;
  for (const Row& row : rows)
    for (const PlanCell& cell : row.cells)
      if (cell.known) {
        sum += static_cast<double>(row.frames) * cell.share;
        weight += static_cast<double>(row.frames);
      }
  return weight == 0 ? 0 : sum / weight;
}

}  // namespace longtake
