#include "video_io/vbench/protocol.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/suggest.h"
#include "base/utf8.h"

namespace longtake {
namespace {

constexpr VbenchDimension kDimensions[] = {
    {"subject_consistency", "subject_consistency", true, 0.1462, 1, 1},
    {"background_consistency", "scene", true, 0.2615, 1, 1},
    {"temporal_flickering", "temporal_flickering", true, 0.6293, 1, 1},
    {"motion_smoothness", "subject_consistency", true, 0.706, 0.9975, 1},
    {"dynamic_degree", "subject_consistency", true, 0, 1, 0.5},
    {"aesthetic_quality", "overall_consistency", true, 0, 1, 1},
    {"imaging_quality", "overall_consistency", true, 0, 1, 1},
    {"object_class", "object_class", false, 0, 1, 1},
    {"multiple_objects", "multiple_objects", false, 0, 1, 1},
    {"human_action", "human_action", false, 0, 1, 1},
    {"color", "color", false, 0, 1, 1},
    {"spatial_relationship", "spatial_relationship", false, 0, 1, 1},
    {"scene", "scene", false, 0, 0.8222, 1},
    {"appearance_style", "appearance_style", false, 0.0009, 0.2855, 1},
    {"temporal_style", "temporal_style", false, 0, 0.364, 1},
    {"overall_consistency", "overall_consistency", false, 0, 0.364, 1},
};

constexpr std::string_view kSuites[] = {"temporal_flickering", "multiple_objects", "human_action",   "subject_consistency",
                                        "object_class",        "color",            "appearance_style", "temporal_style",
                                        "overall_consistency", "scene",            "spatial_relationship"};

}  // namespace

std::span<const VbenchDimension> vbench_dimensions() { return kDimensions; }

const VbenchDimension* find_dimension(std::string_view name) {
  for (const VbenchDimension& dimension : kDimensions)
    if (dimension.name == name) return &dimension;
  return nullptr;
}

std::span<const std::string_view> vbench_suites() { return kSuites; }

bool is_suite(std::string_view name) { return std::find(std::begin(kSuites), std::end(kSuites), name) != std::end(kSuites); }

std::vector<std::string> choose_suites(const std::vector<std::string>& suites, const std::vector<std::string>& dimensions) {
  std::set<std::string_view> chosen;
  for (const std::string& name : suites) {
    if (const VbenchDimension* dimension = find_dimension(name); !is_suite(name) && dimension != nullptr)
      fail_usage("'{}' has no prompts of its own: it is scored on the suite {}; say --dimensions {} or --suites {}", name, dimension->suite, name,
                 dimension->suite);
    if (!is_suite(name))
      fail_usage("unknown suite '{}'{}", printable(name), did_you_mean(name, std::vector<std::string>(std::begin(kSuites), std::end(kSuites))));
    chosen.insert(*std::find(std::begin(kSuites), std::end(kSuites), name));
  }
  for (const std::string& name : dimensions) {
    const VbenchDimension* dimension = find_dimension(name);
    if (dimension == nullptr) {
      std::vector<std::string> names;
      for (const VbenchDimension& known : kDimensions) names.emplace_back(known.name);
      fail_usage("unknown dimension '{}'{}", printable(name), did_you_mean(name, names));
    }
    chosen.insert(dimension->suite);
  }
  std::vector<std::string> out;
  for (const std::string_view suite : kSuites)
    if (chosen.empty() || chosen.contains(suite)) out.emplace_back(suite);
  return out;
}

}  // namespace longtake
