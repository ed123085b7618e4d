#include "cache/teacache.h"

#include "base/error.h"

namespace longtake {
namespace {

constexpr double kLargestTimestep = 1000;

}  // namespace

std::vector<std::pair<std::string, TeaCacheSettings>> TeaCacheSettings::presets() {
  TeaCacheSettings fast;
  fast.threshold = 0.3;
  return {{"slow", {}}, {"fast", fast}};
}

std::vector<SettingKey> TeaCacheSettings::keys() {
  return {choice_key<AttentionScheme>("base", base, {{"none", AttentionScheme::window}, {"causal", AttentionScheme::causal}},
                                      "the policy that it skips rows of: full attention over the window, or causal chunks"),
          number_key("threshold", threshold, 0, 1e6, "a row is computed when the accumulated change reaches this"),
          whole_key("ret", ret, 1, 1000, "first rows of a window, which are always computed"),
          toggle_key("last_row", last_row, "the last row of a window is always computed")};
}

void TeaCache::begin_window(int) {
  before_.clear();
  accumulated_ = 0;
}

void TeaCache::begin_row(const RowContext& row) {
  row_ = {};
  if (!before_.empty()) {
    LONGTAKE_CHECK(row.chunks.size() == before_.size(), "expected {} chunks, found {}", before_.size(), row.chunks.size());
    double changed = 0, size = 0;
    for (size_t c = 0; c < row.chunks.size(); ++c) {
      const double from = before_[c];
      changed += static_cast<double>(row.chunks[c].frames) * change_.between(from, row.chunks[c].timestep);
      size += static_cast<double>(row.chunks[c].frames) * change_.size(from);
    }
    row_.distance = distance_(changed / (size + 1e-8));
  }
  before_.clear();
  for (const auto& chunk : row.chunks) before_.push_back(chunk.timestep);
  if (row.row < settings_.ret || (settings_.last_row && row.row == row.rows - 1)) {
    accumulated_ = 0;
    return;
  }
  row_.phase = Phase::chunk;
  accumulated_ += row_.distance;
  if (accumulated_ >= settings_.threshold)
    accumulated_ = 0;
  else
    row_.tokens = TokenSet::none();
}

void TeaCache::save(State& state) const {
  state.put_numbers("policy/accumulated", {accumulated_});
  state.put_numbers("policy/timesteps", before_);
}

void TeaCache::load(const State& state, const StateLayout& layout) {
  accumulated_ = state.numbers("policy/accumulated", 1)[0];
  before_ = state.numbers("policy/timesteps");
  if (!before_.empty() && before_.size() != layout.frames.size())
    state.refuse(fmt::format("'policy/timesteps' should hold one number for each of {} chunks, found {}", layout.frames.size(), before_.size()));
  for (const double t : before_)
    if (!(t >= 0 && t <= kLargestTimestep)) state.refuse(fmt::format("'policy/timesteps' should hold numbers of 0 ... {}, found {}", kLargestTimestep, t));
}

std::vector<Decision> TeaCache::decide(const StepContext& context) {
  Decision decision = row_;
  if (context.prefix || (settings_.base == AttentionScheme::causal && context.step == 0)) {
    decision.tokens = TokenSet::all();
    decision.phase = Phase::full;
  }
  return std::vector<Decision>(branches_, decision);
}

}  // namespace longtake
