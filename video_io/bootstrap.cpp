#include "video_io/bootstrap.h"

#include "base/error.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

namespace longtake {
namespace {

// std::uniform_int_distribution differs between standard libraries; the modulo's bias is below 2^-50 for our sizes.
size_t draw(std::mt19937_64& random, size_t count) { return static_cast<size_t>(random() % count); }

// Linear interpolation between order statistics.
double quantile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

Estimate bootstrap(std::span<const int> clusters, const Statistic& statistic, const BootstrapSettings& settings) {
  Estimate estimate;
  if (clusters.empty()) return estimate;
  std::map<int, std::vector<size_t>> by_cluster;
  std::vector<size_t> all;
  for (size_t i = 0; i < clusters.size(); ++i) by_cluster[clusters[i]].push_back(i), all.push_back(i);
  estimate.count = static_cast<int>(all.size());
  estimate.clusters = static_cast<int>(by_cluster.size());
  estimate.value = statistic(all);
  if (all.size() < 2) return estimate;

  std::vector<const std::vector<size_t>*> groups;
  for (const auto& [cluster, clips] : by_cluster) groups.push_back(&clips);
  std::mt19937_64 random(settings.seed);
  std::vector<double> values(static_cast<size_t>(settings.resamples));
  std::vector<size_t> sample;
  for (double& value : values) {
    sample.clear();
    for (size_t g = 0; g < groups.size(); ++g) {
      const std::vector<size_t>& clips = *groups[draw(random, groups.size())];
      for (size_t c = 0; c < clips.size(); ++c) sample.push_back(clips[draw(random, clips.size())]);
    }
    value = statistic(sample);
  }
  std::sort(values.begin(), values.end());
  const double tail = (1 - settings.level) / 2;
  estimate.interval = Interval{quantile(values, tail), quantile(values, 1 - tail)};
  return estimate;
}

Estimate bootstrap_mean(std::span<const int> clusters, std::span<const double> values,
                        const BootstrapSettings& settings) {
  LONGTAKE_CHECK(clusters.size() == values.size(), "expected a value for each clip");
  return bootstrap(
      clusters,
      [&](std::span<const size_t> clips) {
        double sum = 0;
        for (const size_t i : clips) sum += values[i];
        return sum / static_cast<double>(clips.size());
      },
      settings);
}

Estimate bootstrap_ratio(std::span<const int> clusters, std::span<const double> numerators,
                         std::span<const double> denominators, const BootstrapSettings& settings) {
  LONGTAKE_CHECK(clusters.size() == numerators.size() && clusters.size() == denominators.size(),
                 "expected two values for each clip");
  return bootstrap(
      clusters,
      [&](std::span<const size_t> clips) {
        double above = 0, below = 0;
        for (const size_t i : clips) above += numerators[i], below += denominators[i];
        return above / below;
      },
      settings);
}

}  // namespace longtake
