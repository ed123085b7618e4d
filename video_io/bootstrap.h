// Confidence intervals for means over prompts and seeds, by the bootstrap.
//
// Clips of one prompt resemble each other, so prompts are the clusters: a resample draws prompts with replacement, and
// within each drawn prompt its clips with replacement (two-stage cluster bootstrap). The interval runs between the 2.5
// % and 97.5 % quantiles of the statistic over all resamples (percentile method). Draws come from a seeded generator of
// fixed definition, so that the same numbers give the same interval on every machine. With a handful of prompts such
// intervals are rough, and on the short side.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace longtake {

struct BootstrapSettings {
  int resamples = 4000;
  uint64_t seed = 1;
  double level = 0.95;
};

struct Interval {
  double low = 0, high = 0;
};

struct Estimate {
  int count = 0;                     // clips
  int clusters = 0;                  // prompts
  double value = 0;                  // of the statistic on all clips
  std::optional<Interval> interval;  // none with a single clip
};

// A number from clips, given by their indices; indices repeat in resamples.
using Statistic = std::function<double(std::span<const size_t>)>;

// clusters[i] is the prompt of clip i. Nothing to estimate (count 0) where there are no clips.
Estimate bootstrap(std::span<const int> clusters, const Statistic& statistic, const BootstrapSettings& settings = {});

// The mean of values, and sum of numerators by sum of denominators (a speedup: total seconds by total seconds).
Estimate bootstrap_mean(std::span<const int> clusters, std::span<const double> values,
                        const BootstrapSettings& settings = {});
Estimate bootstrap_ratio(std::span<const int> clusters, std::span<const double> numerators,
                         std::span<const double> denominators, const BootstrapSettings& settings = {});

}  // namespace longtake
