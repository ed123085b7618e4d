#include "video_io/vbench/score.h"

#include <fmt/ranges.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "base/strict_json.h"
#include "video_io/vbench/protocol.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kMaxResultBytes = size_t{256} << 20;  // results list every video, some every frame

std::string read_result_file(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (error) fail_file("{}: cannot be read ({})", path.string(), error.message());
  if (size > kMaxResultBytes) fail_file("{}: larger than {} MiB, which no result of VBench is", path.string(), kMaxResultBytes >> 20);
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  if (!file) fail_file("{}: cannot be read to its end", path.string());
  return text;
}

double read_score(const json& value, const std::string& dimension, const std::string& origin) {
  const json& score = value.is_array() && !value.empty() ? value[0] : value;
  if (!score.is_number() && !score.is_boolean())
    fail_file("{}: {} must be [score, videos], found a JSON {}; is it a result of VBench's evaluator?", origin, dimension, value.type_name());
  const double number = score.is_boolean() ? score.get<bool>() : score.get<double>();
  if (!(number >= -1 && number <= 1))
    fail_file("{}: {} is {}, and scores lie within -1..1; older versions of VBench gave imaging_quality in percent: evaluate it again", origin, dimension, number);
  return number;
}

std::optional<double> weighted_mean(const VbenchScores& scores, bool quality) {
  double sum = 0, weights = 0;
  for (const VbenchDimension& dimension : vbench_dimensions()) {
    if (dimension.quality != quality) continue;
    const auto at = scores.normalised.find(std::string(dimension.name));
    if (at == scores.normalised.end()) return std::nullopt;
    sum += dimension.weight * at->second;
    weights += dimension.weight;
  }
  return sum / weights;
}

std::string percent(const std::optional<double>& value) { return value ? fmt::format("{:.2f}", 100 * *value) : "-"; }

std::optional<double> find(const std::map<std::string, double>& values, std::string_view key) {
  const auto at = values.find(std::string(key));
  return at == values.end() ? std::nullopt : std::optional(at->second);
}

}  // namespace

VbenchScores vbench_scores(const std::map<std::string, double>& raw) {
  VbenchScores scores;
  scores.raw = raw;
  for (const VbenchDimension& dimension : vbench_dimensions()) {
    const std::string name(dimension.name);
    const auto at = raw.find(name);
    if (at == raw.end())
      scores.missing.push_back(name);
    else
      scores.normalised[name] = (at->second - dimension.min) / (dimension.max - dimension.min);
  }
  scores.quality = weighted_mean(scores, true);
  scores.semantic = weighted_mean(scores, false);
  if (scores.quality && scores.semantic)
    scores.total = (kQualityWeight * *scores.quality + kSemanticWeight * *scores.semantic) / (kQualityWeight + kSemanticWeight);
  return scores;
}

std::map<std::string, double> parse_vbench_results(const std::string& text, const std::string& origin) {
  json object;
  try {
    object = parse_strict_json({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, origin);
  } catch (const Error&) {
    // Python writes numbers that are none into what it calls JSON.
    if (text.find("NaN") != std::string::npos)
      fail_file("{}: holds NaN, which the evaluator writes where it found no videos to score; run longtake vbench check on the folder", origin);
    throw;
  }
  if (object.empty()) fail_file("{}: holds no scores", origin);
  std::map<std::string, double> scores;
  for (const auto& [key, value] : object.items()) {
    std::string name = key;
    std::replace(name.begin(), name.end(), ' ', '_');
    if (find_dimension(name) == nullptr) {
      std::vector<std::string> names;
      for (const VbenchDimension& dimension : vbench_dimensions()) names.emplace_back(dimension.name);
      fail_file("{}: '{}' is none of VBench's 16 dimensions{}", origin, printable(key), did_you_mean(name, names));
    }
    scores[name] = read_score(value, name, origin);
  }
  return scores;
}

VbenchScores read_vbench_results(const fs::path& path) {
  std::vector<fs::path> files;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::recursive_directory_iterator(path))
      if (entry.is_regular_file() && entry.path().filename().string().ends_with("_eval_results.json")) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    if (files.empty()) fail_file("{}: holds no *_eval_results.json; name the --output_path of the evaluator", path.string());
  } else {
    files.push_back(path);
  }
  std::map<std::string, double> raw;
  std::map<std::string, std::string> from;
  for (const fs::path& file : files) {
    for (const auto& [dimension, score] : parse_vbench_results(read_result_file(file), file.string())) {
      const auto [at, is_new] = raw.emplace(dimension, score);
      if (!is_new && at->second != score)
        fail_file("{}: {} is {} here and {} in {}; move the one that does not count away", file.string(), dimension, score, at->second, from[dimension]);
      from[dimension] = file.string();
    }
  }
  return vbench_scores(raw);
}

std::string scores_text(const VbenchScores& scores, const VbenchScores* other) {
  std::string out = fmt::format("{:<24}{:>10}{:>12}{}\n", "in percent", "score", "normalised", other ? fmt::format("{:>14}{:>12}", "other", "difference") : "");
  const auto line = [&](std::string_view name, const std::optional<double>& raw, const std::optional<double>& shown, const std::optional<double>& against) {
    out += fmt::format("{:<24}{:>10}{:>12}", name, percent(raw), percent(shown));
    if (other) out += fmt::format("{:>14}{:>12}", percent(against), shown && against ? fmt::format("{:+.2f}", 100 * (*shown - *against)) : "-");
    out += '\n';
  };
  for (const bool quality : {true, false}) {
    for (const VbenchDimension& dimension : vbench_dimensions())
      if (dimension.quality == quality)
        line(dimension.name, find(scores.raw, dimension.name), find(scores.normalised, dimension.name), other ? find(other->normalised, dimension.name) : std::nullopt);
    if (quality)
      line("Quality", {}, scores.quality, other ? other->quality : std::nullopt);
    else
      line("Semantic", {}, scores.semantic, other ? other->semantic : std::nullopt);
  }
  line("Total", {}, scores.total, other ? other->total : std::nullopt);
  const auto missing = [&](const VbenchScores& of, const char* what) {
    if (!of.missing.empty()) out += fmt::format("missing{}, and not counted as 0: {}\n", what, fmt::join(of.missing, ", "));
  };
  missing(scores, "");
  if (other) missing(*other, " in the other");
  return out;
}

nlohmann::ordered_json scores_json(const VbenchScores& scores) {
  const auto value = [](const std::optional<double>& number) { return number ? nlohmann::ordered_json(*number) : nlohmann::ordered_json(); };
  nlohmann::ordered_json out;
  out["dimensions"] = nlohmann::ordered_json::object();
  for (const VbenchDimension& dimension : vbench_dimensions())
    if (const auto raw = find(scores.raw, dimension.name))
      out["dimensions"][std::string(dimension.name)] = {{"score", *raw}, {"normalised", scores.normalised.at(std::string(dimension.name))}};
  out["quality"] = value(scores.quality);
  out["semantic"] = value(scores.semantic);
  out["total"] = value(scores.total);
  out["missing"] = scores.missing;
  return out;
}

}  // namespace longtake
