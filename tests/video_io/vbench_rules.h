// VBench's own way of finding videos, told again from its code so that exports can be held against it: names are compared byte
// for byte with PROMPT-INDEX plus the suffix of whatever the directory lists first.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace longtake::rules {

struct Matched {
  std::vector<std::string> found, missing;
};

// The videos that VBench reads for a dimension (mode vbench_standard: indexes 0 to 4).
inline Matched standard_match(const nlohmann::json& info, const std::filesystem::path& folder, const std::string& dimension) {
  std::set<std::string> names;
  std::string suffix;
  bool first = true;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (first) suffix = entry.path().extension().string();
    first = false;
    names.insert(entry.path().filename().string());
  }
  Matched matched;
  for (const auto& prompt : info) {
    bool wanted = false;
    for (const auto& name : prompt["dimension"]) wanted = wanted || name == dimension;
    if (!wanted) continue;
    for (int i = 0; i < 5; ++i) {
      const std::string name = prompt["prompt_en"].get<std::string>() + "-" + std::to_string(i) + suffix;
      (names.contains(name) ? matched.found : matched.missing).push_back(name);
    }
  }
  return matched;
}

// integrity_check/check_count.py: all .mp4 below the folder.
inline size_t count_videos(const std::filesystem::path& folder) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) count += entry.path().extension() == ".mp4";
  return count;
}

// dimension_to_folder.json.
inline const std::vector<std::pair<std::string, std::string>>& folders() {
  static const std::vector<std::pair<std::string, std::string>> map = {
      {"subject_consistency", "subject_consistency"}, {"background_consistency", "scene"}, {"aesthetic_quality", "overall_consistency"},
      {"imaging_quality", "overall_consistency"}, {"object_class", "object_class"}, {"multiple_objects", "multiple_objects"},
      {"color", "color"}, {"spatial_relationship", "spatial_relationship"}, {"scene", "scene"}, {"temporal_style", "temporal_style"},
      {"overall_consistency", "overall_consistency"}, {"human_action", "human_action"}, {"temporal_flickering", "temporal_flickering"},
      {"motion_smoothness", "subject_consistency"}, {"dynamic_degree", "subject_consistency"}, {"appearance_style", "appearance_style"}};
  return map;
}

}  // namespace longtake::rules
