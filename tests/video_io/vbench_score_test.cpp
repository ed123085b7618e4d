// Scores, and the script that gets them.
#include "video_io/vbench/score.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/vbench_rules.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/vbench/protocol.h"
#include "video_io/vbench/script.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

// A full set of scores; Quality, Semantic and Total were computed by hand from VBench's formula and constants.
const std::map<std::string, double> kScores = {
    {"subject_consistency", 0.95}, {"background_consistency", 0.96}, {"temporal_flickering", 0.98}, {"motion_smoothness", 0.985},
    {"dynamic_degree", 0.6},       {"aesthetic_quality", 0.62},      {"imaging_quality", 0.67},     {"object_class", 0.9},
    {"multiple_objects", 0.7},     {"human_action", 0.94},           {"color", 0.88},               {"spatial_relationship", 0.72},
    {"scene", 0.5},                {"appearance_style", 0.24},       {"temporal_style", 0.24},      {"overall_consistency", 0.27}};

bool near(double a, double b) { return std::abs(a - b) < 1e-9; }

std::string refused(const std::string& text) {
  try {
    parse_vbench_results(text, "r.json");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::bad_file);
    return error.what();
  }
  return "";
}

std::string results_text(const std::map<std::string, double>& scores) {
  nlohmann::json out;
  for (const auto& [dimension, score] : scores) out[dimension] = {score, {{{"video_path", "x-0.mp4"}, {"video_results", score}}}};
  return out.dump();
}

}  // namespace

TEST_CASE("Quality, Semantic and Total are VBench's") {
  const VbenchScores scores = vbench_scores(kScores);
  const double quality = ((0.95 - 0.1462) / 0.8538 + (0.96 - 0.2615) / 0.7385 + (0.98 - 0.6293) / 0.3707 + (0.985 - 0.706) / 0.2915 + 0.62 + 0.67 + 0.5 * 0.6) / 6.5;
  const double semantic = (0.9 + 0.7 + 0.94 + 0.88 + 0.72 + 0.5 / 0.8222 + (0.24 - 0.0009) / 0.2846 + 0.24 / 0.364 + 0.27 / 0.364) / 9;
  REQUIRE(scores.total.has_value());
  CHECK(near(*scores.quality, quality));
  CHECK(near(*scores.semantic, semantic));
  CHECK(near(*scores.total, (4 * quality + semantic) / 5));
  CHECK(scores.missing.empty());
  // The ends of every scale.
  std::map<std::string, double> best, worst;
  for (const VbenchDimension& d : vbench_dimensions()) best[std::string(d.name)] = d.max, worst[std::string(d.name)] = d.min;
  CHECK(near(*vbench_scores(best).total, 1));
  CHECK(near(*vbench_scores(worst).total, 0));
}

TEST_CASE("a missing dimension is named, and not a zero") {
  auto scores = kScores;
  scores.erase("color");
  const VbenchScores without = vbench_scores(scores);
  CHECK(without.missing == std::vector<std::string>{"color"});
  CHECK(without.quality.has_value());
  CHECK_FALSE(without.semantic.has_value());
  CHECK_FALSE(without.total.has_value());
  CHECK_THAT(scores_text(without), ContainsSubstring("not counted as 0: color"));
  CHECK(scores_json(without)["total"].is_null());
  const VbenchScores all = vbench_scores(kScores);
  CHECK_THAT(scores_text(all, &without), ContainsSubstring("missing in the other"));
  scores = kScores;
  scores["color"] += 0.09;
  const VbenchScores better = vbench_scores(scores);
  CHECK_THAT(scores_text(better, &all), ContainsSubstring("+1.00"));  // Semantic: 9 % of one in nine
}

TEST_CASE("result files of several calls are put together") {
  const TemporaryFolder root;
  std::filesystem::create_directory(root / "color");
  auto most = kScores;
  most.erase("color");
  write_bytes(root / "results_2025_eval_results.json", results_text(most));
  write_bytes(root / "results_2025_full_info.json", "[1, 2]");
  write_bytes(root / "color/results_2026_eval_results.json", results_text({{"color", kScores.at("color")}}));
  CHECK(near(*read_vbench_results(root.path()).total, *vbench_scores(kScores).total));
  CHECK(read_vbench_results(root / "results_2025_eval_results.json").missing == std::vector<std::string>{"color"});
  write_bytes(root / "color/again_eval_results.json", results_text({{"color", kScores.at("color")}}));
  CHECK(read_vbench_results(root.path()).total.has_value());
  write_bytes(root / "color/again_eval_results.json", results_text({{"color", 0.1}}));
  CHECK_THROWS_WITH(read_vbench_results(root.path()), ContainsSubstring("move the one that does not count away"));
  CHECK_THROWS_WITH(read_vbench_results(root / "none"), ContainsSubstring("none"));
  std::filesystem::create_directory(root / "empty");
  CHECK_THROWS_WITH(read_vbench_results(root / "empty"), ContainsSubstring("no *_eval_results.json"));
}

TEST_CASE("result files that are none are refused") {
  CHECK(refused(R"({"color": [0.5, []]})").empty());
  CHECK(refused(R"({"object class": [0.5]})").empty());
  CHECK_THAT(refused(R"({"colour": [0.5]})"), ContainsSubstring("did you mean 'color'"));
  CHECK_THAT(refused(R"({"color": []})"), ContainsSubstring("must be [score, videos]"));
  CHECK_THAT(refused(R"({"color": ["a"]})"), ContainsSubstring("must be [score, videos]"));
  CHECK_THAT(refused(R"({"color": {"a": 1}})"), ContainsSubstring("must be [score, videos]"));
  CHECK_THAT(refused(R"({"imaging_quality": [67.2]})"), ContainsSubstring("in percent"));
  CHECK_THAT(refused(R"({"color": [NaN, []]})"), ContainsSubstring("found no videos"));
  CHECK_THAT(refused(R"({"color": [1e999]})"), ContainsSubstring("r.json"));
  CHECK_THAT(refused("{}"), ContainsSubstring("no scores"));
  CHECK_THAT(refused("[]"), ContainsSubstring("not a JSON object"));
  CHECK_THAT(refused(R"({"color": [0.5], "color": [0.6]})"), ContainsSubstring("twice"));
  CHECK_THAT(refused("{\"color\": " + std::string(100000, '[')), ContainsSubstring("nests deeper"));
  const std::string good = results_text(kScores);
  std::mt19937 random(11);
  for (int round = 0; round < 500; ++round) {
    std::string text = good;
    for (int edits = 0; edits < 3; ++edits) text[random() % text.size()] = static_cast<char>(random());
    refused(text);
  }
}

TEST_CASE("the script calls every dimension on the folder that VBench scores it on") {
  VbenchScriptRequest request{.videos = "/data/it's here/videos", .suites = choose_suites({}, {}), .results = "/data/results"};
  const std::string standard = vbench_script(request);
  for (const auto& [dimension, folder] : rules::folders()) {
    if (dimension == "temporal_flickering") continue;
    CHECK_THAT(standard, ContainsSubstring("--videos_path \"$VIDEOS\"/" + folder + " --dimension " + dimension + " "));
  }
  CHECK_THAT(standard, ContainsSubstring("VIDEOS='/data/it'\\''s here/videos'"));
  CHECK_THAT(standard, ContainsSubstring("static_filter --videos_path \"$VIDEOS\"/temporal_flickering"));
  CHECK_THAT(standard, ContainsSubstring("filtered_videos --dimension temporal_flickering"));
  request.protocol = VbenchProtocol::long_videos;
  request.flicker_samples = 25;
  request.prompt_list = "longer.txt";
  const std::string longer = vbench_script(request);
  for (const auto& [dimension, folder] : rules::folders()) CHECK_THAT(longer, ContainsSubstring("\nevaluate " + dimension + " " + folder));
  CHECK_THAT(longer, ContainsSubstring("--static_filter_flag --num_of_samples_per_prompt 25"));
  CHECK_THAT(longer, ContainsSubstring("prompt optimized"));
  request.suites = {"scene"};
  const std::string scene = vbench_script(request);
  CHECK_THAT(scene, ContainsSubstring("evaluate background_consistency scene"));
  CHECK(scene.find("evaluate color") == std::string::npos);
  request.protocol = VbenchProtocol::standard;
  request.layout = VbenchLayout::flat;
  CHECK_THAT(vbench_script(request), ContainsSubstring("--videos_path \"$VIDEOS\" --dimension scene"));
  for (const char* path : {"/a\"b", "/a$b", "/a`b", "/a\nb"}) {
    request.videos = path;
    CHECK_THROWS_AS(vbench_script(request), Error);
  }
}
