// longtake compare, end to end with the real program: one small comparison serves most tests.
#include <ATen/ops/equal.h>
#include <stdlib.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "models/umt5/tokenizer.h"
#include "models/weights/checkpoint.h"
#include "models/weights/safetensors.h"
#include "tests/apps/program.h"
#include "tests/catch.h"
#include "tests/video_io/markup.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/reader.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<std::string> quick_compare(const std::filesystem::path& out, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {
      "compare", "-m", "demo",      "-o", out,     "--frames",          "13", "--size", "64x64", "--steps", "6",
      "--chunk", "2",  "--threads", "1",  "--set", "sampling.ar_step=1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

const char* kPrompt = "a red circle moves up over grass";

struct Finished {
  TemporaryFolder folder;
  std::filesystem::path path;
  ProgramResult result;
  nlohmann::json json;
};

// Two prompts, four policies (both baselines are added), with two windows.
const Finished& finished() {
  static const Finished* const made = [] {
    auto* f = new Finished;
    f->path = f->folder / "out";
    write_bytes(f->folder / "prompts.txt",
                "# comment\r\n\r\n  a red circle moves up over grass \r\nsomething <else> & more\n");
    f->result = run_longtake(quick_compare(
        f->path, {"--prompts", f->folder / "prompts.txt", "--policies",
                  "motioncache:threshold=0.2,warmup=1,phase1=1,min_ratio=0.1; causal@history=carry", "--set",
                  "sampling.window=9", "--set", "sampling.overlap=5", "--json-log", f->folder / "log.jsonl"}));
    if (f->result.status == 0) f->json = nlohmann::json::parse(read_bytes(f->path / "results.json"));
    std::atexit([] { delete &finished(); });
    return f;
  }();
  return *made;
}

}  // namespace

TEST_CASE("compare writes a report, numbers and videos") {
  const Finished& f = finished();
  INFO(f.result.err);
  REQUIRE(f.result.status == 0);
  CHECK_THAT(f.result.out, ContainsSubstring("report.html") &&
                               ContainsSubstring("motioncache:min_ratio=0.1,phase1=1,threshold=0.2,warmup=1"));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(f.path)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"report.html", "results.csv", "results.json", "videos"});
  CHECK(f.json["runs"].size() == 8);
  CHECK(f.json["policies"].size() == 4);
  CHECK(f.json["policies"][0]["added_as_baseline"] == true);
  for (const auto& run : f.json["runs"]) {
    const VideoInfo video = probe(f.path / run["video"].get<std::string>());
    CHECK(video.frames == 13);
    CHECK(video.width == 64);
    CHECK(tags_record(video.tags)->at("prompt") == run["prompt"]);
  }
  CHECK(probe(f.path / "videos/side-by-side-p01-s1.mp4").frames == 13);
  CHECK_FALSE(std::filesystem::exists(f.path / "videos/side-by-side-p02-s1.mp4"));
  CHECK_THAT(read_bytes(f.folder / "log.jsonl"), ContainsSubstring("\"event\":\"done\""));
}

TEST_CASE("compare interleaves policies and rotates their order") {
  const Finished& f = finished();
  REQUIRE(f.result.status == 0);
  std::vector<std::string> order;
  for (const auto& run : f.json["runs"]) order.push_back(run["policy"]);
  CHECK(order[0] == "none");
  CHECK(order[1] == "causal");
  CHECK(order[4] == order[1]);
  CHECK(order[7] == order[0]);
  CHECK_THAT(f.json["warmup"].get<std::string>(), ContainsSubstring("causal@history=carry on prompt 1"));
  CHECK(f.json["repeatable"] == true);
}

TEST_CASE("compare measures what it says") {
  const Finished& f = finished();
  REQUIRE(f.result.status == 0);
  for (const auto& run : f.json["runs"]) {
    INFO(run.dump(1).substr(0, 400));
    const std::string policy = run["policy"];
    CHECK(run["seconds"]["denoise"] > 0);
    CHECK(run["seconds"]["total"].get<double>() >=
          run["seconds"]["denoise"].get<double>() + run["seconds"]["vae_decode"].get<double>());
    CHECK(run["flops"] > 0);
    CHECK(run["recomputed_share_by_step"].size() == 6);
    CHECK(run["seams"]["windows"].size() == 1);
    CHECK(run["seams"]["windows"][0]["frame"] == 9);
    CHECK(run["raw_frames"].contains("against_causal") == (policy != "causal"));
    CHECK(run["raw_frames"].contains("against_none") == (policy != "none"));
    if (policy != "causal") CHECK(run["raw_frames"]["against_causal"]["psnr_by_frame"].size() == 13);
    CHECK(run["prompt_following"].is_null() == (run["prompt_index"] == 1));
    const int64_t recomputed = run["tokens"]["recomputed"], all = run["tokens"]["all"];
    CHECK((recomputed < all) == policy.starts_with("motioncache"));
    // What a policy without reuse would have computed is the work of causal.
    if (policy.starts_with("motioncache"))
      for (const auto& other : f.json["runs"])
        if (other["policy"] == "causal") {
          CHECK(std::abs(run["flops_without_reuse"].get<double>() / other["flops"].get<double>() - 1) < 1e-9);
          CHECK(all == other["tokens"]["recomputed"]);
        }
  }
}

TEST_CASE("compare's numbers agree with generate and metrics") {
  const Finished& f = finished();
  REQUIRE(f.result.status == 0);
  const TemporaryFolder folder;
  const auto generate = [&](const std::string& policy, const std::string& name) {
    REQUIRE(run_longtake({"generate",
                          "-m",
                          "demo",
                          "-o",
                          folder / name,
                          "--frames",
                          "13",
                          "--threads",
                          "1",
                          "--size",
                          "64x64",
                          "--steps",
                          "6",
                          "--chunk",
                          "2",
                          "--set",
                          "sampling.ar_step=1",
                          "--set",
                          "sampling.window=9",
                          "--set",
                          "sampling.overlap=5",
                          "-p",
                          kPrompt,
                          "--seed",
                          "1",
                          "--policy",
                          policy})
                .status == 0);
  };
  generate("causal", "causal.safetensors");
  generate("none", "none.safetensors");
  const auto metrics =
      nlohmann::json::parse(run_longtake({"metrics", folder / "causal.safetensors", folder / "none.safetensors"}).out);
  const auto& run = f.json["runs"][0];
  REQUIRE(run["policy"] == "none");
  CHECK(std::abs(metrics["against"]["psnr_pooled"].get<double>() -
                 run["raw_frames"]["against_causal"]["psnr_pooled"].get<double>()) < 1e-9);
  CHECK(std::abs(metrics["against"]["ssim"].get<double>() - run["raw_frames"]["against_causal"]["ssim"].get<double>()) <
        1e-9);
  // The videos carry their settings, so metrics knows the border; and the encoded numbers are those of the files.
  const auto files =
      nlohmann::json::parse(run_longtake({"metrics", f.path / f.json["runs"][1]["video"].get<std::string>(),
                                          f.path / run["video"].get<std::string>()})
                                .out);
  CHECK(std::abs(files["against"]["psnr_pooled"].get<double>() -
                 run["encoded_frames"]["against_causal"]["psnr_pooled"].get<double>()) < 1e-9);
  CHECK(files["seams"]["windows"][0]["frame"] == 9);
}

TEST_CASE("compare's page is well formed and its links lead somewhere") {
  const Finished& f = finished();
  REQUIRE(f.result.status == 0);
  const std::string page = read_bytes(f.path / "report.html");
  CHECK(markup_fault(page) == "");
  CHECK(page.find("<script") == std::string::npos);
  CHECK(page.find("://") == std::string::npos);
  int links = 0;
  for (const std::string mark : {"href=\"", "src=\"", "poster=\""})
    for (size_t at = page.find(mark); at != std::string::npos; at = page.find(mark, at + 1)) {
      const size_t start = at + mark.size();
      const std::string target = page.substr(start, page.find('"', start) - start);
      if (target.starts_with("#") || target.starts_with("data:")) continue;
      ++links;
      INFO(target);
      CHECK(std::filesystem::exists(f.path / target));
    }
  CHECK(links >= 8 + 2 + 2);
}

TEST_CASE("compare's page renders in a browser without errors, and all pictures load") {
  std::string browser;
  for (const char* name : {"chromium", "chromium-browser", "google-chrome"})
    if (browser.empty() && std::system(fmt::format("command -v {} >/dev/null 2>&1", name).c_str()) == 0) browser = name;
  if (browser.empty()) LONGTAKE_SKIP("no chromium, chromium-browser or google-chrome here");
  const Finished& f = finished();
  REQUIRE(f.result.status == 0);
  // A copy whose added script, run after everything is loaded, writes down what the browser made of the page.
  const auto copy = f.path / "checked.html";
  write_bytes(copy,
              read_bytes(f.path / "report.html") +
                  "<script>addEventListener('load',()=>{const q=s=>[...document.querySelectorAll(s)];const i=q('img');"
                  "document.body.dataset.images=i.length;document.body.dataset.broken=i.filter(x=>!x.complete||!x."
                  "naturalWidth).length;"
                  "document.body.dataset.plots=q('svg.plot').filter(x=>x.getBoundingClientRect().width>200).length;"
                  "document.body.dataset.wide=Math.max(0,document.documentElement.scrollWidth-innerWidth);document."
                  "body.dataset.checked='yes'})</script>\n");
  const auto dom = f.folder / "dom.html", errors = f.folder / "errors.txt";
  const std::string command = fmt::format(
      "timeout 60 {} --headless --no-sandbox --disable-gpu --no-first-run --user-data-dir='{}' --window-size=1280,900 "
      "--enable-logging=stderr --virtual-time-budget=5000 --dump-dom 'file://{}' >'{}' 2>'{}'",
      browser, (f.folder / "profile").string(), copy.string(), dom.string(), errors.string());
  const int status = std::system(command.c_str());
  const std::string page = read_bytes(dom), log = read_bytes(errors);
  std::filesystem::remove(copy);
  if (status != 0 || page.empty()) LONGTAKE_SKIP(browser << " does not start here");
  CHECK_THAT(page, ContainsSubstring("data-checked=\"yes\""));
  CHECK_THAT(page, ContainsSubstring("data-images=\"8\"") && ContainsSubstring("data-broken=\"0\""));
  CHECK_THAT(page, ContainsSubstring("data-wide=\"0\""));
  CHECK(page.find("data-plots=\"0\"") == std::string::npos);
  INFO(log);
  CHECK(log.find("CONSOLE") == std::string::npos);
}

TEST_CASE("compare lists runs that fail and ends with exit code 6") {
  const TemporaryFolder folder;
  const std::filesystem::path demo = std::filesystem::path(LONGTAKE_SOURCE_DIR) / "share/models/demo";
  std::filesystem::copy(demo, folder / "model", std::filesystem::copy_options::recursive);
  // A text encoder that knows no purple: prompts with that word have contexts that are not finite.
  const auto weights = folder / "model/text_encoder/model.safetensors";
  std::map<std::string, at::Tensor> tensors;
  {
    const Checkpoint file = Checkpoint::open(demo / "text_encoder/model.safetensors");
    for (const std::string& name : file.names()) tensors[name] = file.tensor(name).clone();
  }
  const Tokenizer tokenizer(demo / "tokenizer/spiece.model");
  const auto piece = tokenizer.encode("purple").ids.front();
  REQUIRE(tensors.contains("shared.weight"));
  tensors["shared.weight"][piece].fill_(std::numeric_limits<float>::quiet_NaN());
  std::filesystem::remove(weights);
  save_safetensors(weights, tensors, {{"format", "pt"}});
  const ProgramResult run =
      run_longtake(quick_compare(folder / "out", {"-m", folder / "model", "-p", "a purple star moves up over sand",
                                                  "-p", kPrompt, "--policies", "causal", "--baselines", "listed"}));
  INFO(run.err);
  CHECK(run.status == 6);
  CHECK_THAT(run.err, ContainsSubstring("1 of 2 runs failed"));
  const auto json = nlohmann::json::parse(read_bytes(folder / "out/results.json"));
  CHECK_THAT(json["runs"][0]["error"].get<std::string>(), ContainsSubstring("not finite"));
  CHECK(json["runs"][1]["seconds"]["total"] > 0);
  CHECK_THAT(json["missing_baselines"].get<std::string>(), ContainsSubstring("no baseline none"));
  const std::string page = read_bytes(folder / "out/report.html");
  CHECK(markup_fault(page) == "");
  CHECK_THAT(page, ContainsSubstring("1 of 2 runs failed"));
  CHECK(std::filesystem::exists(folder / "out/videos/side-by-side-p02-s1.mp4") == false);
}

TEST_CASE("compare refuses what it cannot do before it loads the model") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::vector<std::string>& more, int status, const std::string& said) {
    const ProgramResult run = run_longtake(quick_compare(folder / "out", more));
    INFO(run.err);
    CHECK(run.status == status);
    CHECK_THAT(run.err, ContainsSubstring(said));
    CHECK_FALSE(std::filesystem::exists(folder / "out"));
  };
  refused({"--policies", "causal"}, 2, "no prompt");
  refused({"-p", kPrompt}, 2, "--policies");
  refused({"-p", kPrompt, "--policies", "cusal"}, 2, "did you mean 'causal'");
  refused({"-p", kPrompt, "--policies", "causal@histry=carry"}, 2, "did you mean 'history'");
  refused({"-p", kPrompt, "--policies", "causal", "--seeds", "x"}, 2, "--seeds");
  refused({"-p", kPrompt, "--policies", "causal", "--seeds", "0"}, 2, "between 1 and");
  refused({"-p", kPrompt, "--policies", "causal", "--seeds", "3,3"}, 2, "twice");
  refused({"-p", kPrompt, "--policies", "causal", "--policy", "none"}, 2, "--polic");
  refused({"-p", kPrompt, "--policies", "causal", "--frames", "18"}, 2, "18");
  refused({"-p", kPrompt, "--policies", "causal", "--lpips", folder / "missing.pt"}, 3, "does not exist");
  refused({"--prompts", folder / "missing.txt", "--policies", "causal"}, 3, "missing.txt");
  write_bytes(folder / "latin1.txt", "a caf\xe9\n");
  refused({"--prompts", folder / "latin1.txt", "--policies", "causal"}, 3, "line 1 is not UTF-8");
  write_bytes(folder / "empty.txt", "# nothing\n\n");
  refused({"--prompts", folder / "empty.txt", "--policies", "causal"}, 3, "no prompt");
}

TEST_CASE("compare does not write over other files unless told") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "out");
  write_bytes(folder / "out/mine.txt", "mine");
  const ProgramResult run = run_longtake(quick_compare(folder / "out", {"-p", kPrompt, "--policies", "causal"}));
  CHECK(run.status == 3);
  CHECK_THAT(run.err, ContainsSubstring("not empty") && ContainsSubstring("--overwrite"));
  CHECK(std::distance(std::filesystem::directory_iterator(folder / "out"), {}) == 1);
}

TEST_CASE("compare's dry run says what would run") {
  const ProgramResult run = run_longtake({"compare", "-m", "demo", "-p", kPrompt, "-p", "another", "--policies",
                                          "motioncache:slow,causal@history=carry", "--seeds", "5,9,", "--dry-run"});
  INFO(run.err);
  CHECK(run.status == 0);
  CHECK_THAT(run.out, ContainsSubstring("4 policies x 2 prompts x 2 seeds = 16 runs and a warm-up") &&
                          ContainsSubstring("none (baseline, added)") && ContainsSubstring("causal@history=carry"));
}
