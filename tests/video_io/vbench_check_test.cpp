// Folders as other programs write them, and every trap that is known.
#include "video_io/vbench/check.h"

#include <ATen/TensorOperators.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/vbench_rules.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/digest.h"
#include "video_io/vbench/protocol.h"
#include "video_io/vbench/scan.h"
#include "video_io/writer.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

const fs::path kData = fs::path(LONGTAKE_SOURCE_DIR) / "tests/data/vbench";

struct Look {
  int frames = 5, height = 32, width = 32, fps = 8;
};

// Each another picture.
void write_clip(const fs::path& path, int number, const Look& look = {}) {
  fs::create_directories(path.parent_path());
  VideoWriter writer({.path = path, .width = look.width, .height = look.height, .fps = look.fps, .crf = 12, .preset = "ultrafast", .tags = {}});
  writer.push(smooth_clip(look.frames, look.height, look.width) + number);
  writer.finish();
}

std::vector<VbenchPrompt> small_prompts(bool longer = false) {
  auto prompts = parse_vbench_prompts(read_bytes(kData / "info.json"), "info.json");
  if (longer) set_long_prompts(prompts, read_bytes(kData / "longer.txt"), "longer.txt");
  return prompts;
}

VbenchCheckRequest request_for(const fs::path& videos, bool open = false) {
  VbenchCheckRequest request;
  request.videos = videos;
  request.prompts = small_prompts(true);
  request.suites = choose_suites({}, {});
  request.samples = request.flicker_samples = 1;
  request.open = open;
  return request;
}

// One video a prompt, empty files or real ones.
void write_set(const fs::path& root, bool by_suite, bool real) {
  int number = 0;
  for (const VbenchPrompt& prompt : small_prompts()) {
    const fs::path path = root / (by_suite ? prompt.suite : "") / (prompt.text + "-0.mp4");
    fs::create_directories(path.parent_path());
    if (real)
      write_clip(path, ++number);
    else
      write_bytes(path, "x");
  }
}

std::vector<std::string> kinds(const VbenchCheckReport& report) {
  std::set<std::string> kinds;
  for (const VbenchFault& fault : report.faults)
    if (fault.kind != "case collision" && fault.kind != "first entry") kinds.insert(fault.kind);  // the order is the file system's
  return {kinds.begin(), kinds.end()};
}

std::string text_of(const VbenchCheckReport& report, const std::string& kind) {
  for (const VbenchFault& fault : report.faults)
    if (fault.kind == kind) return fault.place + ": " + fault.text;
  return "";
}

using Kinds = std::vector<std::string>;

}  // namespace

TEST_CASE("a complete folder is ready in both layouts") {
  const TemporaryFolder root;
  write_set(root / "suite", true, true);
  write_set(root / "flat", false, true);
  const VbenchCheckReport by_suite = check_vbench_folder(request_for(root / "suite", true)), flat = check_vbench_folder(request_for(root / "flat", true));
  INFO(check_text(by_suite) << check_text(flat));
  CHECK(by_suite.errors() == 0);
  CHECK(by_suite.layout == "suite");
  CHECK(by_suite.protocol == "short");
  CHECK(by_suite.files == 13);
  CHECK(flat.errors() == 0);
  CHECK(flat.layout == "flat");
  CHECK(flat.files == 12);  // two prompts share their file
  CHECK(kinds(by_suite).empty());
  CHECK(check_json(flat)["ready"] == true);
  CHECK_THAT(check_text(flat), ContainsSubstring("ready for VBench: 0 errors"));
}

TEST_CASE("each trap of names and folders is found, and says what to do") {
  const TemporaryFolder root;
  const auto with = [&](const std::function<void(const fs::path&)>& change, const std::function<void(VbenchCheckRequest&)>& adapt = {}) {
    const fs::path folder = root / "videos";
    fs::remove_all(folder);
    write_set(folder, true, false);
    change(folder);
    VbenchCheckRequest request = request_for(folder);
    if (adapt) adapt(request);
    return check_vbench_folder(request);
  };
  const auto add = [&](const std::string& name) { return with([&](const fs::path& f) { write_bytes(f / name, "y"); }); };
  const auto rename = [&](const std::string& from, const std::string& to) { return with([&](const fs::path& f) { fs::rename(f / from, f / to); }); };

  CHECK(kinds(with([](const fs::path&) {})).empty());
  CHECK(kinds(add("color/manifest.json")) == Kinds{"other file"});
  CHECK(kinds(add("color/.DS_Store")) == Kinds{"other file"});
  CHECK(kinds(add("color/a red circle-0.gif")) == Kinds{"suffix"});
  CHECK(kinds(add("color/a red circle-1.mp4")) == Kinds{"extra sample"});
  CHECK(kinds(add("temporal_flickering/a still lake-7.mp4")) == Kinds{"extra sample"});
  CHECK_THAT(text_of(add("temporal_flickering/a still lake-7.mp4"), "extra sample"), ContainsSubstring("--flicker-samples"));
  CHECK(kinds(add("color/somebody else's video-0.mp4")) == Kinds{"unknown prompt"});
  CHECK(kinds(add("color/a red circle.mp4")) == Kinds{"no number"});
  CHECK(kinds(add("color/meadow-0.mp4")) == Kinds{"wrong suite"});
  CHECK(kinds(add("stray.mp4")) == Kinds{"layout"});
  CHECK(kinds(rename("color/a red circle-0.mp4", "color/a red circle-0.MP4")) == Kinds{"missing video", "suffix"});
  CHECK(kinds(rename("color/a red circle-0.mp4", "color/a_red_circle-0.mp4")) == Kinds{"spelling"});
  CHECK(kinds(rename("subject_consistency/a triangle moves up, then stops.-0.mp4", "subject_consistency/a triangle moves up then stops-0.mp4")) == Kinds{"spelling"});
  CHECK(kinds(rename("color/a red circle-0.mp4", "color/A Red Circle-0.mp4")) == Kinds{"letter case"});
  CHECK(kinds(rename("appearance_style/The old façades, oil painting-0.mp4", "appearance_style/The old fac\u0327ades, oil painting-0.mp4")) == Kinds{"not NFC"});
  CHECK(kinds(rename("color/a red circle-0.mp4", "color/a large red circle moves from left to right over gre-0.mp4")) == Kinds{"long prompt", "missing video"});
  CHECK_THAT(text_of(rename("color/a red circle-0.mp4", "color/a large red circle moves from left to right over gre-0.mp4"), "long prompt"),
             ContainsSubstring("\"a red circle-N.mp4\""));
  CHECK(kinds(with([](const fs::path& f) { fs::remove(f / "scene/meadow-0.mp4"); })) == Kinds{"missing video"});
  CHECK(kinds(with([](const fs::path& f) { fs::remove_all(f / "scene"); })) == Kinds{"missing suite"});
  CHECK(kinds(with([](const fs::path& f) { fs::create_directory(f / "dynamic_degree"); })) == Kinds{"borrowed suite"});
  CHECK_THAT(text_of(with([](const fs::path& f) { fs::create_directory(f / "dynamic_degree"); }), "borrowed suite"), ContainsSubstring("subject_consistency"));
  CHECK(kinds(with([](const fs::path& f) { fs::create_directories(f / "color/split_clip/a red circle-0"); })) == Kinds{"evaluator's leftover"});
  CHECK(kinds(with([](const fs::path& f) { fs::create_directory(f / "color/subject_consistency_cat_firstframes_videos"); })) == Kinds{"evaluator's leftover"});
  CHECK(kinds(with([](const fs::path& f) { fs::create_directory(f / "color/more"); })) == Kinds{"other file"});
  CHECK(kinds(with([](const fs::path& f) { fs::remove_all(f); fs::create_directories(f / "meta"); })) == Kinds{"layout"});
  CHECK(kinds(with([](const fs::path&) {}, [](VbenchCheckRequest& r) { r.suites = {"scene"}; })) == Kinds{"unexpected suite"});
  CHECK(with([](const fs::path&) {}, [](VbenchCheckRequest& r) { r.suites = {"scene"}; }).errors() == 0);
  CHECK(with([](const fs::path&) {}, [](VbenchCheckRequest& r) { r.samples = 5; }).expected == 61);

  const TemporaryFolder odd;
  write_set(odd / "a$b", true, false);
  CHECK(kinds(check_vbench_folder(request_for(odd / "a$b"))) == Kinds{"path"});

  // Names that are no UTF-8, from a tool that does not care.
  CHECK(kinds(add("color/caf\xe9-0.mp4")) == Kinds{"unknown prompt"});
}

TEST_CASE("a folder that VBench would misread is never called ready") {
  // Whatever the file system lists first: where VBench finds a video less, the check finds a fault.
  const TemporaryFolder root;
  const json info = json::parse(read_bytes(kData / "info.json"));
  for (const std::string extra : {"", ".a", "Z.json", "aaa", "zzz.mp4", "0.txt", "meadow-0.gif", "meadow.mp4"}) {
    fs::remove_all(root / "v");
    write_set(root / "v", true, false);
    if (!extra.empty()) write_bytes(root / ("v/scene/" + extra), "y");
    const auto matched = rules::standard_match(info, root / "v/scene", "scene");
    const VbenchCheckReport report = check_vbench_folder(request_for(root / "v"));
    INFO(extra);
    CHECK((report.errors() == 0) == extra.empty());
    if (matched.found.empty()) CHECK_FALSE(text_of(report, "first entry").empty());
  }
}

TEST_CASE("videos that VBench's readers would stumble over are found") {
  const TemporaryFolder root;
  const fs::path folder = root / "videos", target = folder / "color/a red circle-0.mp4", other = folder / "scene/meadow-0.mp4";
  const auto with = [&](const std::function<void()>& change, const std::function<void(VbenchCheckRequest&)>& adapt = {}) {
    fs::remove_all(folder);
    fs::copy(root / "good", folder, fs::copy_options::recursive);
    change();
    VbenchCheckRequest request = request_for(folder, true);
    if (adapt) adapt(request);
    return check_vbench_folder(request);
  };
  write_set(root / "good", true, true);
  const std::string good = read_bytes(root / "good/color/a red circle-0.mp4");

  CHECK(kinds(with([&] { write_bytes(target, ""); })) == Kinds{"unreadable"});
  CHECK(kinds(with([&] { write_bytes(target, "no video at all"); })) == Kinds{"unreadable"});
  CHECK(kinds(with([&] { write_bytes(target, good.substr(0, good.size() / 2)); })).size() >= 1);
  CHECK(with([&] { write_bytes(target, good.substr(0, good.size() / 2)); }).errors() > 0);
  CHECK(kinds(with([&] { fs::copy_file(other, target, fs::copy_options::overwrite_existing); })) == Kinds{"same video"});
  CHECK(kinds(with([&] { write_clip(target, 99, {.frames = 9}); })) == Kinds{"unlike the others"});
  CHECK(kinds(with([&] { write_clip(target, 99, {.height = 48}); })) == Kinds{"unlike the others"});
  CHECK(kinds(with([&] { write_clip(target, 99, {.fps = 10}); })) == Kinds{"unlike the others"});
  CHECK(kinds(with([] {}, [](VbenchCheckRequest& r) { r.protocol = VbenchProtocol::long_videos; })) == Kinds{"protocol"});

  // Pictures that cannot be decoded: bytes within the encoded data are overwritten.
  std::string damaged = good;
  const size_t data = damaged.find("mdat");
  REQUIRE(data != std::string::npos);
  for (size_t i = data + 800; i < damaged.size() - 8; ++i) damaged[i] = static_cast<char>(i * 37);
  const auto broken = with([&] { write_bytes(target, damaged); });
  INFO(check_text(broken));
  CHECK(broken.errors() > 0);
  CHECK((kinds(broken) == Kinds{"decoder message"} || kinds(broken) == Kinds{"unreadable"}));

  // A time unit that makes 8 frames a second 8.004: the last four digits of the media header's time scale.
  std::string slow = good;
  const size_t header = slow.find("mdhd");
  REQUIRE(header != std::string::npos);
  slow[header + 19] = static_cast<char>(slow[header + 19] + 8);
  const auto uneven = with([&] { write_bytes(target, slow); });
  INFO(check_text(uneven));
  CHECK_THAT(text_of(uneven, "frame rate"), ContainsSubstring("not a whole number"));
}

TEST_CASE("long videos belong to VBench-Long, which needs a folder a suite") {
  const TemporaryFolder root;
  int number = 0;
  for (const VbenchPrompt& prompt : small_prompts()) write_clip(root / (prompt.text + "-0.mp4"), ++number, {.frames = 41, .height = 16, .width = 16});
  const VbenchCheckReport report = check_vbench_folder(request_for(root.path(), true));
  CHECK(report.protocol == "long");
  CHECK(kinds(report) == Kinds{"layout"});
}

TEST_CASE("a scan tells how frames are timed, and never throws for what a file holds") {
  const TemporaryFolder root;
  write_clip(root / "a.mp4", 1, {.frames = 17, .fps = 24});
  const VideoScan scan = scan_video(root / "a.mp4", true);
  CHECK(scan.error.empty());
  CHECK(scan.messages.empty());
  CHECK(scan.frames == 17);
  CHECK(scan.integer_rate());
  CHECK(scan.fps() == 24);
  CHECK(scan.constant_rate);
  CHECK(scan.start == 0);
  CHECK(scan_video(root / "a.mp4", false).frames == 17);
  CHECK_FALSE(scan_video(root / "none.mp4", true).error.empty());
  CHECK_FALSE(scan_video(root.path(), true).error.empty());
  const std::string good = read_bytes(root / "a.mp4");
  for (int round = 0; round < 60; ++round) {
    std::string bytes = good;
    bytes[static_cast<size_t>(round) * (bytes.size() - 1) / 59] ^= static_cast<char>(0x5a);
    write_bytes(root / "b.mp4", bytes);
    scan_video(root / "b.mp4", true);
  }
}

TEST_CASE("digests are SHA-256") {
  const TemporaryFolder root;
  write_bytes(root / "abc", "abc");
  CHECK(sha256_of_file(root / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-4, appendix
  write_bytes(root / "none", "");
  CHECK(sha256_of_file(root / "none") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  write_bytes(root / "million", std::string(1000000, 'a'));
  CHECK(sha256_of_file(root / "million") == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  CHECK_THROWS_AS(sha256_of_file(root / "missing"), Error);
}
