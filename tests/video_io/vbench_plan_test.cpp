// Prompts, plans and the jobs that follow from them.
#include "video_io/vbench/plan.h"

#include <cstdlib>
#include <random>
#include <set>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/vbench_rules.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/vbench/check.h"
#include "video_io/vbench/protocol.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

const std::filesystem::path kData = std::filesystem::path(LONGTAKE_SOURCE_DIR) / "tests/data/vbench";

VbenchPlan small_plan() {
  VbenchPlan plan;
  plan.suites = choose_suites({}, {});
  plan.prompt_list = "standard";
  for (const auto& [key, value] : std::map<std::string, std::string>{{"video.frames", "17"}, {"video.size", "64x64"}, {"video.crf", "12"}, {"sampling.steps", "4"}})
    plan.options.set({key, value, "test"}, SourceLevel::flag);
  return plan;
}

VbenchExport export_of(const VbenchPlan& plan, const std::string& info, const std::string& list, const std::filesystem::path& root) {
  write_vbench_export(root, plan, info, list, true);
  return open_vbench_export(root);
}

template <class F>
std::string refused(F f) {
  try {
    f();
  } catch (const Error& error) {
    CHECK((error.code() == ExitCode::bad_file || error.code() == ExitCode::usage));
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("VBench's prompts are read, with the suite of each") {
  const auto prompts = parse_vbench_prompts(read_bytes(kData / "info.json"), "info.json");
  REQUIRE(prompts.size() == 13);
  CHECK(prompts[3].suite == "subject_consistency");
  CHECK(prompts[3].dimensions == std::vector<std::string>{"subject_consistency", "dynamic_degree", "motion_smoothness"});
  CHECK(prompts[11].suite == "scene");
  CHECK(prompts[6].text == "The old façades, oil painting");
  CHECK(prompts[12].line == 13);
}

TEST_CASE("files that are no prompts of VBench are refused") {
  const auto info = [](const std::string& text) { return refused([&] { parse_vbench_prompts(text, "info.json"); }); };
  const auto entry = [&](const std::string& prompt, const std::string& dimensions) {
    return info("[{\"prompt_en\": \"" + prompt + "\", \"dimension\": " + dimensions + "}]");
  };
  CHECK(entry("a", "[\"color\"]").empty());
  CHECK_THAT(info("{}"), ContainsSubstring("not a JSON array"));
  CHECK_THAT(info("[]"), ContainsSubstring("946"));
  CHECK_THAT(info("[1]"), ContainsSubstring("entry 1: expected an object"));
  CHECK_THAT(info("[{\"prompt\": \"a\"}]"), ContainsSubstring("prompt_en"));
  CHECK_THAT(info("[{\"prompt_en\": \"a\"}]"), ContainsSubstring("'dimension'"));
  CHECK_THAT(entry("a", "[\"colour\"]"), ContainsSubstring("colour"));
  CHECK_THAT(entry("a", "[]"), ContainsSubstring("suite"));
  CHECK_THAT(entry("a", "[\"color\", \"scene\"]"), ContainsSubstring("two suites"));
  for (const std::string name : {"../../x", "/etc/passwd", ".hidden", "a\\u0000b", "a\\nb", "cafe\\u0301", ""})
    CHECK_THAT(entry(name, "[\"color\"]"), name.empty() ? ContainsSubstring("begins with '-'") : ContainsSubstring("cannot be a file name"));
  CHECK_THAT(entry(std::string(300, 'x'), "[\"color\"]"), ContainsSubstring("302 bytes"));
  CHECK_THAT(info(std::string(50000, '[')), ContainsSubstring("nests deeper"));
  CHECK_THAT(info("[{\"prompt_en\": \"a\", \"prompt_en\": \"b\", \"dimension\": [\"color\"]}]"), ContainsSubstring("twice"));

  const std::string good = read_bytes(kData / "info.json");
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    std::string text = good;
    for (int edits = 0; edits < 3; ++edits) text[random() % text.size()] = static_cast<char>(random());
    info(text);  // an Error or prompts; anything else ends the test
  }
}

TEST_CASE("longer prompts are aligned line by line, whatever ends the lines") {
  const std::string info = read_bytes(kData / "info.json"), list = read_bytes(kData / "longer.txt");
  REQUIRE_THAT(list, ContainsSubstring("\r\n"));
  auto prompts = parse_vbench_prompts(info, "info.json");
  set_long_prompts(prompts, list, "longer.txt");
  CHECK(prompts[0].long_text == "a large blue circle stands still over calm water, seen from far above");
  CHECK(prompts[12].long_text == "a red circle on the left stands beside a green square on the right, over sand");
  CHECK(prompts[0].text == "a still lake");
  CHECK_THAT(refused([&] { set_long_prompts(prompts, list.substr(0, list.rfind('\r')), "longer.txt"); }), ContainsSubstring("expected 13 lines, found 12"));
  std::string gap = list;
  gap.insert(gap.find('\n') + 1, "\r\n");
  CHECK_THAT(refused([&] { set_long_prompts(prompts, gap, "longer.txt"); }), ContainsSubstring("longer.txt line 2: is empty"));
}

TEST_CASE("a plan reads back as it was written, and slips in it are refused") {
  VbenchPlan plan = small_plan();
  plan.suites = choose_suites({"scene"}, {"dynamic_degree"});
  plan.samples = 3;
  plan.flicker_samples = 25;
  plan.seed = 18446744073709551615u;
  plan.layout = VbenchLayout::flat;
  plan.prompt_list = "a \"list\": of # prompts.txt";
  const std::string yaml = plan_yaml(plan);
  const VbenchPlan again = parse_vbench_plan(yaml, "plan.yaml");
  CHECK(again.suites == std::vector<std::string>{"subject_consistency", "scene"});
  CHECK(again.samples == 3);
  CHECK(again.flicker_samples == 25);
  CHECK(again.seed == plan.seed);
  CHECK(again.layout == VbenchLayout::flat);
  CHECK(again.prompt_list == plan.prompt_list);
  CHECK(video_settings(again.options, again.recipe) == video_settings(plan.options, plan.recipe));

  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = yaml;
    REQUIRE(text.find(from) != std::string::npos);
    text.replace(text.find(from), from.size(), to);
    return refused([&] { parse_vbench_plan(text, "plan.yaml"); });
  };
  CHECK_THAT(changed("samples: 3", "sampels: 3"), ContainsSubstring("did you mean 'samples'"));
  CHECK_THAT(changed("samples: 3", "samples: 0"), ContainsSubstring("from 1 to 1000"));
  CHECK_THAT(changed("samples: 3\n", ""), ContainsSubstring("'samples' is missing"));
  CHECK_THAT(changed("layout: flat", "layout: flatt"), ContainsSubstring("one of suite, flat"));
  CHECK_THAT(changed("[subject", "[subjekt"), ContainsSubstring("did you mean 'subject_consistency'"));
  CHECK_THAT(changed("steps: 4", "stepz: 4"), ContainsSubstring("did you mean 'sampling.steps'"));
  CHECK_THAT(changed("version: 1", "version: 2"), ContainsSubstring("version"));
  CHECK_THAT(changed("crf: 12", "crf: 18"), ContainsSubstring("0 (lossless) to 12"));
  CHECK_THAT(changed("protocol: short", "protocol: long"), ContainsSubstring("VBench (less than 5 s)"));
  CHECK_THAT(changed("frames: 17", "frames: 177"), ContainsSubstring("VBench-Long"));
}

TEST_CASE("dimensions bring the suites that they are scored on") {
  CHECK(choose_suites({}, {}).size() == 11);
  CHECK(choose_suites({}, {"imaging_quality", "background_consistency"}) == std::vector<std::string>{"overall_consistency", "scene"});
  CHECK_THAT(refused([] { choose_suites({"dynamic_degree"}, {}); }), ContainsSubstring("scored on the suite subject_consistency"));
  CHECK_THAT(refused([] { choose_suites({"scenes"}, {}); }), ContainsSubstring("did you mean 'scene'"));
  CHECK_THAT(refused([] { choose_suites({}, {"dynamic"}); }), ContainsSubstring("unknown dimension"));
  for (const VbenchDimension& dimension : vbench_dimensions()) CHECK(is_suite(dimension.suite));
  for (const auto& [dimension, suite] : rules::folders()) CHECK(find_dimension(dimension)->suite == suite);
}

TEST_CASE("jobs are made from the longer prompt, called by the short one, and have seeds of their own") {
  const TemporaryFolder root;
  VbenchPlan plan = small_plan();
  plan.prompt_list = "longer.txt";
  plan.flicker_samples = 25;
  plan.seed = 7;
  const VbenchExport vbench = export_of(plan, read_bytes(kData / "info.json"), read_bytes(kData / "longer.txt"), root.path());
  const auto jobs = vbench_jobs(vbench);
  REQUIRE(jobs.size() == 12 * 5 + 25);
  CHECK(jobs[0].name == "temporal_flickering/a still lake-0");
  CHECK(jobs[24].name == "temporal_flickering/a still lake-24");
  CHECK(jobs[0].options.values().prompt == "a large blue circle stands still over calm water, seen from far above");
  CHECK(jobs[24].options.values().seed == 7 + 1000003 + 24);
  CHECK(jobs[26].options.values().seed == 7 + 2 * 1000003 + 1);
  CHECK(jobs[0].about["vbench_prompt"] == "a still lake");
  std::set<uint64_t> seeds;
  std::set<std::string> names;
  for (const BatchJob& job : jobs) {
    seeds.insert(*job.options.values().seed);
    names.insert(job.name);
    check_job(job, plan.recipe);
  }
  CHECK(seeds.size() == jobs.size());
  CHECK(names.size() == jobs.size());

  plan.layout = VbenchLayout::flat;
  CHECK(vbench_jobs(export_of(plan, read_bytes(kData / "info.json"), read_bytes(kData / "longer.txt"), root / "flat")).size() == 11 * 5 + 25);
  CHECK_THAT(refused([&] { write_vbench_export(root.path(), plan, "[]", "", false); }), ContainsSubstring("holds another plan"));
  CHECK_THAT(refused([&] { open_vbench_export(root / "none"); }), ContainsSubstring("meta/plan.yaml"));
}

// With VBench's own files, where they are at hand.
TEST_CASE("the standard set has VBench's counts and names, by VBench's rules") {
  const char* data = std::getenv("LONGTAKE_VBENCH_DATA");
  if (data == nullptr) LONGTAKE_SKIP("LONGTAKE_VBENCH_DATA is not set: VBench's own prompt files are not checked");
  const std::string info_text = read_bytes(std::filesystem::path(data) / "VBench_full_info.json");
  const std::string list = read_bytes(std::filesystem::path(data) / "all_dimension_longer.txt");
  const json info = json::parse(info_text);
  const TemporaryFolder root;
  const auto write_all = [&](const VbenchExport& vbench) {
    for (const BatchJob& job : vbench_jobs(vbench)) {
      const auto path = vbench.folder.video(job.name);
      std::filesystem::create_directories(path.parent_path());
      write_bytes(path, "x");
    }
  };
  VbenchPlan plan = small_plan();
  plan.prompt_list = "all_dimension_longer.txt";

  const VbenchExport by_suite = export_of(plan, info_text, list, root / "suite");
  write_all(by_suite);
  CHECK(rules::count_videos(root / "suite/videos") == 4730);
  for (const auto& [dimension, folder] : rules::folders()) {
    const auto matched = rules::standard_match(info, root / "suite/videos" / folder, dimension);
    INFO(dimension);
    CHECK(matched.missing.empty());
    CHECK(matched.found.size() % 5 == 0);
  }
  CHECK(rules::standard_match(info, root / "suite/videos/overall_consistency", "imaging_quality").found.size() == 93 * 5);

  plan.layout = VbenchLayout::flat;
  const VbenchExport flat = export_of(plan, info_text, list, root / "flat");
  write_all(flat);
  CHECK(rules::count_videos(root / "flat/videos") == 4720);
  for (const auto& [dimension, folder] : rules::folders()) CHECK(rules::standard_match(info, root / "flat/videos", dimension).missing.empty());

  for (const VbenchExport* vbench : {&by_suite, &flat}) {
    VbenchCheckRequest request;
    request.videos = vbench->folder.videos();
    request.prompts = vbench->prompts;
    request.suites = plan.suites;
    request.open = false;
    const VbenchCheckReport report = check_vbench_folder(request);
    CHECK(report.errors() == 0);
    CHECK(report.files == (vbench == &flat ? 4720 : 4730));
    CHECK(report.faults.size() == 5);  // "a fantasy landscape" and "A fantasy landscape"
  }

  plan.layout = VbenchLayout::by_suite;
  plan.flicker_samples = 25;
  CHECK(vbench_jobs(export_of(plan, info_text, list, root / "many")).size() == 4730 + 1500);
  size_t longest = 0;
  for (const BatchJob& job : vbench_jobs(by_suite)) longest = std::max(longest, job.name.substr(job.name.find('/') + 1).size() + 4);
  CHECK(longest == 216);  // 217 with -24
  CHECK(by_suite.prompts.front().long_text.size() >= 473);
}
