#include "models/skyreels/row_layout.h"

#include "base/error.h"

namespace longtake::skyreels {

RowLayout::RowLayout(std::span<const WorkItem> items, std::span<const at::Tensor> inputs,
                     const WindowGeometry& geometry) {
  LONGTAKE_CHECK(items.size() == inputs.size() && !items.empty(), "expected one input an item, found {} and {}",
                 items.size(), inputs.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const WorkItem& item = items[i];
    const int64_t frames = geometry.chunks.at(item.chunk).frames, plane = geometry.plane;
    const int64_t count = item.tokens.count(frames, plane);
    LONGTAKE_CHECK(inputs[i].size(0) == frames * plane, "expected {} tokens of chunk {}, found {}", frames * plane,
                   item.chunk, inputs[i].size(0));
    LONGTAKE_CHECK(count > 0 && static_cast<int64_t>(item.timesteps.size()) == frames,
                   "expected a token set that is not empty and {} timesteps for chunk {}, found {} and {}", frames,
                   item.chunk, count, item.timesteps.size());
    LONGTAKE_CHECK(!item.finished && item.step_size == 0, "expected no finished item and no step size (chunk {})", item.chunk);
    if (!self.empty() && self.back().branch == item.branch && self.back().keys == item.keys)
      self.back().rows += count;
    else
      self.push_back({item.branch, rows, count, item.keys});
    if (!branches.empty() && branches.back().branch == item.branch)
      branches.back().rows += count;
    else
      branches.push_back({item.branch, rows, count, {}});
    const int text = item.branch == 0 ? geometry.chunks[item.chunk].text : 0;
    if (!texts.empty() && texts.back().branch == item.branch && texts.back().text == text)
      texts.back().rows += count;
    else
      texts.push_back({item.branch, rows, count, {}, text});
    rows_of_item.push_back(count);
    rows += count;
  }
  const size_t each = items.size() / branches.size();
  branches_agree = each * branches.size() == items.size();
  for (size_t i = 0; branches_agree && i < items.size(); ++i) {
    const WorkItem &first = items[i % each], &item = items[i];
    branches_agree = item.branch == branches[i / each].branch && item.chunk == first.chunk && item.tokens.known_equal(first.tokens) &&
                     item.timesteps == first.timesteps && item.keys == first.keys && item.writes_kv == first.writes_kv &&
                     inputs[i].is_same(inputs[i % each]);
  }
}

void RowLayout::settle_branches(KvCache& kv) const {
  if (!branches_agree || std::ssize(branches) != kv.shape().branches) kv.branches_differ();
}

DistinctTimesteps::DistinctTimesteps(std::span<const double> timesteps) {
  for (double t : timesteps) {
    const auto found = std::find(values.begin(), values.end(), t);
    index.push_back(found - values.begin());
    if (found == values.end()) values.push_back(t);
  }
}

}  // namespace longtake::skyreels
