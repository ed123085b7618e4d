#include "video_io/comparison.h"

#include "tests/catch.h"
#include "tests/video_io/markup.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/comparison_page.h"
#include "video_io/page_parts.h"

#include <sstream>

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

Closeness close(double psnr, double ssim, double lpips) {
  Closeness c;
  c.quality = {{psnr, psnr + 2}, {ssim, ssim}, psnr + 1, ssim, psnr + 0.9};
  c.lpips = {lpips, lpips};
  return c;
}

// Two prompts, two seeds; none 4 s, causal 2 s, a policy 1 s (plus a little by clip).
Comparison example() {
  Comparison c;
  c.version = "1.2.3", c.date = "2026-01-02 03:04 UTC", c.model = "demo <model>", c.device = "cpu", c.dtype = "fp32",
  c.command = "longtake compare 'a & b'";
  c.machine = {"Some CPU", 2, 8'000'000'000, "", "Linux"};
  c.memory_meaning = "resident memory of the process";
  c.options = {{"sampling", {{"steps", 3}}}};
  c.frames = 2, c.height = c.width = 32, c.fps = 16, c.steps = 3;
  for (const char* text : {"none", "causal", "motioncache:slow@history=carry"})
    c.policies.push_back({parse_policy_entry(text)});
  c.policies[0].added = true;
  c.prompts = {"a red, \"quoted\" circle", "two\nlines <b>"};
  c.seeds = {1, 18446744073709551615u};
  c.warmup = "causal on prompt 1";
  c.repeatable = true;
  c.lpips = "alex.pt";
  c.planned_runs = 12;
  int order = 0;
  for (const uint64_t seed : c.seeds)
    for (int prompt = 0; prompt < 2; ++prompt)
      for (int policy = 0; policy < 3; ++policy) {
        ClipRun run;
        run.policy = policy, run.prompt = prompt, run.seed = seed, run.order = ++order;
        run.denoise_seconds = (policy == 0 ? 4 : policy == 1 ? 2 : 1) + 0.1 * prompt;
        run.total_seconds = run.denoise_seconds + 0.5, run.decode_seconds = 0.5;
        run.recomputed = policy == 2 ? 50 : 100, run.tokens = 100;
        run.flops = policy == 0 ? 4e12 : policy == 1 ? 2e12 : 1e12, run.flops_without_reuse = policy == 0 ? 4e12 : 2e12;
        run.peak_bytes = 1'000'000'000;
        run.video = "videos/x.mp4";
        if (policy != 1) run.raw[0] = close(30 + prompt, 0.9, 0.1), run.encoded[0] = close(28 + prompt, 0.88, 0.12);
        if (policy != 0) run.raw[1] = close(20 + prompt, 0.8, 0.2), run.encoded[1] = close(19 + prompt, 0.78, 0.22);
        run.seams.chunks = {{1, 1.5, 1.1, 3, 2}};
        run.following = PromptFollowing{true, prompt == 0, true, {}, prompt == 0};
        run.following_report = {{"follows", prompt == 0}};
        run.share_by_step = policy == 2 ? std::vector<double>{1, 0.5, 0} : std::vector<double>{1, 1, 1};
        c.runs.push_back(run);
      }
  return c;
}

// RFC 4180.
std::vector<std::vector<std::string>> read_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows{{""}};
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string& field = rows.back().back();
    if (quoted && text[i] == '"' && i + 1 < text.size() && text[i + 1] == '"')
      field += text[++i];
    else if (text[i] == '"')
      quoted = !quoted;
    else if (!quoted && text[i] == ',')
      rows.back().emplace_back();
    else if (!quoted && text.substr(i, 2) == "\r\n")
      ++i, rows.push_back({""});
    else
      field += text[i];
  }
  CHECK_FALSE(quoted);
  rows.pop_back();
  return rows;
}

}  // namespace

TEST_CASE("means and speedups are over the clips that have them") {
  Comparison c = example();
  const Estimate psnr = mean_of(c, 2, measure("psnr_causal"));
  CHECK(psnr.count == 4);
  CHECK(psnr.clusters == 2);
  CHECK(std::abs(psnr.value - 31.4) < 1e-12);
  CHECK(mean_of(c, 1, measure("psnr_causal")).count == 0);
  const Estimate speed = speedup_of(c, 2, 1, Timing::denoise);
  CHECK(std::abs(speed.value - (2 * 2 + 2 * 2.1) / (2 * 1 + 2 * 1.1)) < 1e-12);
  CHECK(std::abs(mean_of(c, 2, measure("recomputed_share")).value - 0.5) < 1e-12);
  CHECK(std::abs(mean_of(c, 2, measure("follows")).value - 0.5) < 1e-12);
  // A clip whose baseline failed is in no speedup, and a failed run in no mean.
  for (ClipRun& run : c.runs)
    if (run.policy == 1 && run.prompt == 1) run.error = "out of memory";
  CHECK(speedup_of(c, 2, 1, Timing::denoise).count == 2);
  CHECK(mean_of(c, 1, measure("denoise_seconds")).count == 2);
  CHECK(mean_curve(c, 2, [](const ClipRun& run) { return &run.share_by_step; }) == std::vector<double>{1, 0.5, 0});
}

TEST_CASE("the JSON holds every run and the means") {
  Comparison c = example();
  c.runs[5].error = "broke";
  const auto json = nlohmann::ordered_json::parse(comparison_json(c).dump());
  CHECK(json["runs"].size() == 12);
  CHECK(json["runs_failed"] == 1);
  CHECK(json["runs"][5]["error"] == "broke");
  CHECK_FALSE(json["runs"][5].contains("flops"));
  CHECK(json["runs"][2]["seed"] == 1);
  CHECK(json["runs"][11]["seed"] == 18446744073709551615u);
  CHECK(json["runs"][2]["raw_frames"]["against_causal"]["psnr_by_frame"].size() == 2);
  CHECK(json["policies"][2]["options"]["sampling.history"] == "carry");
  CHECK(json["policies"][2]["speedup"]["denoise_against_none"]["clips"] == 3);
  CHECK(json["policies"][2]["means"]["ssim_none"]["interval95"].is_array());
  CHECK(json["policies"][0]["added_as_baseline"] == true);
  CHECK(json["caveats"].size() > 4);
}

TEST_CASE("the CSV has one line a run and survives any prompt") {
  const Comparison c = example();
  const auto rows = read_csv(comparison_csv(c));
  REQUIRE(rows.size() == 13);
  for (const auto& row : rows) CHECK(row.size() == 7 + measures().size());
  CHECK(rows[1][2] == c.prompts[0]);
  CHECK(rows[4][2] == c.prompts[1]);
  const auto column = std::find(rows[0].begin(), rows[0].end(), "psnr_causal") - rows[0].begin();
  CHECK(std::abs(std::stod(rows[3][column]) - 30.9) < 1e-12);
  CHECK(rows[2][column] == "");
}

TEST_CASE("what may mislead is said when it applies") {
  Comparison c = example();
  const auto text = [&] {
    std::string all;
    for (const std::string& line : caveats(c)) all += line + "\n";
    return all;
  };
  CHECK(text().find("fail") == text().find("fail its prompt"));
  CHECK(text().find("busy") == std::string::npos);
  c.runs[0].error = "x";
  CHECK_THAT(text(), ContainsSubstring("1 of 12 runs failed"));
  c.runs.pop_back();
  CHECK_THAT(text(), ContainsSubstring("not finished: 11 of 12"));
  c.lpips = "", c.warmup = "", c.repeatable = false, c.policies[2].same_noise = false;
  c.missing_baselines = "There is no baseline none.";
  for (ClipRun& run : c.runs) run.other_load = 0.4;
  for (const char* part : {"LPIPS was not measured", "no warm-up", "bit for bit", "same noise", "no baseline none",
                           "busy: other programs had 40 %"})
    CHECK_THAT(text(), ContainsSubstring(part));
}

TEST_CASE("the page is well formed, self-contained, and shows everything") {
  Comparison c = example();
  c.runs[4].error = "<img src=x onerror=alert(1)>";
  ClipPictures clip;
  clip.prompt = 1, clip.seed = 1, clip.side_by_side = "videos/side.mp4", clip.times = {0, 1},
  clip.difference_from = "causal";
  clip.poster = smooth_clip(1, 16, 24)[0];
  clip.strips.push_back({2, smooth_clip(1, 16, 24)[0]});
  const std::string page = comparison_page(c, {clip});
  CHECK(markup_fault(page) == "");
  for (const char* none : {"<script", "http:", "https:", "onerror=\"", "\"nan", ">nan", "@import", "url("}) {
    INFO(none);
    CHECK(page.find(none) == std::string::npos);
  }
  for (const char* id :
       {"summary", "cost", "time", "work", "pictures", "seams", "follow", "encoded", "runs", "method"}) {
    CHECK_THAT(page, ContainsSubstring(fmt::format("<section id=\"{}\">", id)));
    CHECK_THAT(page, ContainsSubstring(fmt::format("href=\"#{}\"", id)));
  }
  CHECK_THAT(page, ContainsSubstring("motioncache:slow@history=carry") && ContainsSubstring("demo &lt;model&gt;") &&
                       ContainsSubstring("prefers-color-scheme:dark"));
  CHECK_THAT(page, ContainsSubstring("<img class=\"strip\"") &&
                       ContainsSubstring("src=\"data:image/png;base64,iVBOR") &&
                       ContainsSubstring("poster=\"data:image/png"));
  // 6.1 s of causal against 3.1 s: the clip whose causal run failed is left out. The interval goes without its unit.
  CHECK_THAT(page, ContainsSubstring("1.97x<span class=\"ci\">1.91 – 2.00</span>"));
  CHECK_THAT(page, ContainsSubstring("failed: &lt;img"));
}

TEST_CASE("a comparison without results is still a page") {
  Comparison c = example();
  c.runs.clear();
  CHECK(markup_fault(comparison_page(c, {})) == "");
  for (ClipRun run : example().runs) {
    run.error = "all failed";
    c.runs.push_back(run);
  }
  CHECK(markup_fault(comparison_page(c, {})) == "");
  CHECK(comparison_json(c)["policies"][1]["means"]["psnr_none"].is_null());
}

TEST_CASE("identical clips are named, not drawn") {
  Comparison c = example();
  for (ClipRun& run : c.runs)
    if (run.policy == 2) run.raw[0] = close(kMaxPsnr, 1, 0), run.raw[0]->quality.pooled_psnr = kMaxPsnr;
  CHECK_THAT(comparison_page(c, {}),
             ContainsSubstring("Not drawn, as identical to causal: motioncache:slow@history=carry"));
}

TEST_CASE("base64") {
  const auto encode = [](std::string_view text) { return base64({text.begin(), text.end()}); };
  CHECK(encode("") == "");
  CHECK(encode("f") == "Zg==");
  CHECK(encode("fo") == "Zm8=");
  CHECK(encode("foobar") == "Zm9vYmFy");
  CHECK(base64({0xff, 0xfe, 0xfd}) == "//79");
}
