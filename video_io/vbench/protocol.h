// What VBench measures, and with which prompts. Source: Vchitect/VBench at 45e79ec: VBench_full_info.json, dimension_to_folder.json,
// scripts/constant.py (normalisation, weights), vbench2_beta_long/configs/clip_length_mix.yaml.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace longtake {

struct VbenchDimension {
  std::string_view name;
  std::string_view suite;  // whose videos it is scored on
  bool quality;            // part of the Quality score; else of Semantic
  double min, max;         // scores are shown as (score - min) / (max - min)
  double weight;           // within its group
};

inline constexpr double kQualityWeight = 4, kSemanticWeight = 1;  // of the Total
inline constexpr int kStandardSamples = 5;                        // VBench reads the videos -0 to -4 of a prompt
inline constexpr int kFlickerSamples = 25;                        // temporal_flickering with the static filter
inline constexpr double kLongSeconds = 5;                         // from here on videos belong to VBench-Long
inline constexpr std::string_view kFlickering = "temporal_flickering";

std::span<const VbenchDimension> vbench_dimensions();
const VbenchDimension* find_dimension(std::string_view name);

// The 11 suites, in the order of the prompt file.
std::span<const std::string_view> vbench_suites();
bool is_suite(std::string_view name);

// The suites, in their order, that are named or that a named dimension is scored on; all where both are empty. Unknown names
// are usage errors with the nearest match.
std::vector<std::string> choose_suites(const std::vector<std::string>& suites, const std::vector<std::string>& dimensions);

}  // namespace longtake
