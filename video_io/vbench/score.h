// VBench's Quality, Semantic and Total from the result files of its evaluator.
//
// Source: Vchitect/VBench at 45e79ec, scripts/cal_final_score.py and scripts/constant.py. Unlike there, a missing dimension is
// not a 0: what needs it has no score.
//
// Result files are not trusted; errors: bad_file with file and dimension.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace longtake {

struct VbenchScores {
  std::map<std::string, double> raw;         // by dimension, as the evaluator wrote them
  std::map<std::string, double> normalised;  // (raw - min) / (max - min)
  std::optional<double> quality, semantic, total;
  std::vector<std::string> missing;          // dimensions
};

// From {dimension: score}.
VbenchScores vbench_scores(const std::map<std::string, double>& raw);

// The scores in one result file, {dimension: [score, ...]}; `text` is its content.
std::map<std::string, double> parse_vbench_results(const std::string& text, const std::string& origin);

// One result file, or all *_eval_results.json below a folder. A dimension in two files is an Error unless both say the same.
VbenchScores read_vbench_results(const std::filesystem::path& path);

// A table; with `other` also its scores and the differences.
std::string scores_text(const VbenchScores& scores, const VbenchScores* other = nullptr);
nlohmann::ordered_json scores_json(const VbenchScores& scores);

}  // namespace longtake
