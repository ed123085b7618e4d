#include "runtime/batch_folder.h"

#include <random>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

std::string size_digest(const std::filesystem::path& path) { return read_bytes(path); }

BatchJob job_of(const std::string& name, const std::string& steps = "4") {
  BatchJob job;
  job.name = name;
  job.options.set({"prompt", "a red circle", "test"}, SourceLevel::flag);
  job.options.set({"seed", "1", "test"}, SourceLevel::flag);
  job.options.set({"sampling.steps", steps, "test"}, SourceLevel::flag);
  return job;
}

void finish(const BatchFolder& folder, const BatchJob& job, const std::string& bytes) {
  const nlohmann::ordered_json record = {{"sha256", bytes}, {"bytes", bytes.size()}, {"seconds", 2.5}, {"seed", 1}, {"weights", "w"}, {"settings", video_settings(job.options, Recipe{})}};
  write_whole(folder.record(job.name), json_text(record));
  write_whole(folder.video(job.name), bytes);
}

std::string refused(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::bad_file);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a video is done where settings, weights and bytes agree") {
  const TemporaryFolder root;
  for (const bool apart : {false, true}) {
    const BatchFolder folder(root / (apart ? "apart" : "here"), apart);
    const BatchJob job = job_of("scene/a");
    const auto state = [&](const BatchJob& j, const std::string& weights = "w") { return video_status(folder, j, Recipe{}, weights, size_digest); };
    CHECK(state(job).state == VideoState::missing);
    finish(folder, job, "bytes");
    CHECK(state(job).state == VideoState::done);
    CHECK(state(job_of("scene/a", "5")).state == VideoState::other);
    CHECK(state(job_of("scene/a", "5")).why == "sampling.steps 4, now 5");
    CHECK_THAT(state(job, "v").why, ContainsSubstring("other weights"));
    BatchJob elsewhere = job;  // where it runs does not matter
    elsewhere.options.set({"run.device", "cuda:1", "test"}, SourceLevel::flag);
    elsewhere.options.set({"run.threads", "3", "test"}, SourceLevel::flag);
    elsewhere.options.set({"out", "/else/where.mp4", "test"}, SourceLevel::flag);
    CHECK(state(elsewhere).state == VideoState::done);
    write_bytes(folder.video(job.name), "Bytes");
    CHECK_THAT(state(job).why, ContainsSubstring("changed"));
    write_bytes(folder.video(job.name), "bytes");
    std::filesystem::remove(folder.record(job.name));
    CHECK_THAT(state(job).why, ContainsSubstring("no record"));
    std::filesystem::remove(folder.video(job.name));
    std::filesystem::create_directory(folder.video(job.name));
    CHECK_THAT(state(job).why, ContainsSubstring("no regular file"));
  }
}

TEST_CASE("a video is another one where the picture or video that its job was given has changed") {
  const TemporaryFolder root;
  const BatchFolder folder(root / "videos");
  BatchJob job = job_of("a");
  const std::string picture = root / "first.png";
  job.options.set({"conditioning.image", picture, "test"}, SourceLevel::flag);
  const auto content = [](const std::filesystem::path& path) { return read_bytes(path); };
  const auto why = [&] { return video_status(folder, job, Recipe{}, "w", content).why; };
  write_bytes(picture, "one");
  CHECK(input_digests(job.options.values(), content) == std::map<std::string, std::string>{{"conditioning.image", "one"}});
  finish(folder, job, "bytes");
  CHECK_THAT(why(), ContainsSubstring("does not tell the content of") && ContainsSubstring("first.png"));
  nlohmann::ordered_json record = nlohmann::ordered_json::parse(read_bytes(folder.record("a")));
  record["inputs"] = input_digests(job.options.values(), content);
  write_whole(folder.record("a"), json_text(record));
  CHECK(video_status(folder, job, Recipe{}, "w", content).state == VideoState::done);
  write_bytes(picture, "two");
  CHECK_THAT(why(), ContainsSubstring("first.png has changed since"));
  std::filesystem::remove(picture);
  CHECK(video_status(folder, job, Recipe{}, "w", content).state == VideoState::done);
  record["inputs"]["conditioning.image"] = 7;
  write_whole(folder.record("a"), json_text(record));
  CHECK_THAT(refused([&] { read_record(folder.record("a")); }), ContainsSubstring("'inputs' must be an object of texts"));
}

TEST_CASE("every option that changes a video makes it another one") {
  const std::vector<std::string> elsewhere = {"out", "run.device", "run.threads", "run.decode_latents", "run.json_log", "run.dry_run",
                                              "run.record_plan", "run.resume", "run.overwrite_run", "run.keep_run", "run.preview", "run.checkpoint_budget",
                                              "run.text_cache", "run.offload", "run.memory_budget",
                                              // Other models', which a batch refuses.
                                              "sampling.in_flight", "sampling.key_chunks", "sampling.clean_key_chunks", "sampling.prev_guidance", "sampling.special_tokens"};
  const OptionSet usual = job_of("x").options;
  for (const OptionInfo& info : option_schema()) {
    if (info.key == "video.duration") continue;  // sets the frames to none
    OptionSet changed = usual;
    std::string value = info.kind == OptionKind::choice ? info.choices.back() : info.kind == OptionKind::toggle ? "true" : info.kind == OptionKind::size ? "32x48" : info.kind == OptionKind::timeline ? "0-: 3" : "3";
    if (value == option_text(usual.values(), info)) value = info.choices.front();
    changed.set({info.key, value, "test"}, SourceLevel::flag);
    const bool same = settings_difference(json::parse(video_settings(usual, Recipe{}).dump()), video_settings(changed, Recipe{})).empty();
    INFO(info.key);
    CHECK(same == (std::find(elsewhere.begin(), elsewhere.end(), info.key) != elsewhere.end()));
  }
}

TEST_CASE("a summary counts done, failed and missing videos of all shards") {
  const TemporaryFolder root;
  const BatchFolder folder(root.path());
  const std::vector<BatchJob> jobs = {job_of("a"), job_of("b"), job_of("c"), job_of("d")};
  write_job_names(folder, jobs);
  finish(folder, jobs[0], "1234");
  finish(folder, jobs[1], "12");
  write_bytes(folder.video("b"), "cut off, or still being copied");
  write_whole(folder.failure("c"), R"({"error": "too bad"})");
  const auto names = read_job_names(folder);
  CHECK(names == std::vector<std::string>{"a", "b", "c", "d"});
  const BatchSummary summary = summarize(folder, names);
  CHECK(summary.done == std::vector<std::string>{"a"});
  CHECK(summary.missing == std::vector<std::string>{"b", "d"});
  REQUIRE(summary.failed.size() == 1);
  CHECK(summary.failed[0].error == "too bad");
  CHECK(summary.seconds == 2.5);
  CHECK(summary.bytes == 4);
  write_manifest(folder, names);
  const std::string manifest = read_bytes(folder.meta() / "manifest.jsonl");
  CHECK(std::count(manifest.begin(), manifest.end(), '\n') == 2);
}

TEST_CASE("foreign and broken state files are refused by name") {
  const TemporaryFolder root;
  const BatchFolder folder(root.path());
  CHECK_THAT(refused([&] { read_job_names(folder); }), ContainsSubstring("no folder of a batch"));
  const auto names = [&](const std::string& text) {
    write_whole(folder.meta() / "jobs.json", text);
    return refused([&] { read_job_names(folder); });
  };
  CHECK(names(R"({"version":1,"names":["a","scene/b"]})").empty());
  for (const char* name : {"../x", "/etc/passwd", "a/../b", "a/b/c", "", ".", "a/", "a\\\\b", "a\\u0000b"})
    CHECK_THAT(names(std::string(R"({"version":1,"names":[")") + name + "\"]}"), ContainsSubstring("cannot be the name of a video"));
  CHECK_THAT(names(R"({"version":2,"names":[]})"), ContainsSubstring("version"));
  CHECK_THAT(names(R"({"version":1})"), ContainsSubstring("names"));
  CHECK_THAT(names(R"({"version":1,"names":"a"})"), ContainsSubstring("a list"));
  CHECK_THAT(names(R"({"version":1,"names":[1]})"), ContainsSubstring("texts"));
  CHECK_THAT(names(R"({"version":1,"version":1,"names":[]})"), ContainsSubstring("twice"));
  CHECK_THAT(names("[" + std::string(100000, '[')), ContainsSubstring("nests deeper"));
  CHECK_THAT(names("{"), ContainsSubstring("not JSON"));

  const std::string good = R"({"sha256":"x","bytes":1,"seconds":1,"seed":1,"weights":"w","settings":{}})";
  const auto record = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    write_whole(root / "r.json", text);
    return refused([&] { read_record(root / "r.json"); });
  };
  CHECK(record("x", "y").empty());
  CHECK_THAT(record(R"("sha256":"x",)", ""), ContainsSubstring("'sha256', which is not there"));
  CHECK_THAT(record(R"("bytes":1)", R"("bytes":-1)"), ContainsSubstring("'bytes' must be a whole number"));
  CHECK_THAT(record(R"("bytes":1)", R"("bytes":1e99)"), ContainsSubstring("'bytes'"));
  CHECK_THAT(record(R"("seconds":1)", R"("seconds":"1")"), ContainsSubstring("'seconds'"));
  CHECK_THAT(record(R"("settings":{})", R"("settings":[])"), ContainsSubstring("'settings' must be an object"));
  write_bytes(root / "r.json", std::string((1 << 20) + 1, ' '));
  CHECK_THAT(refused([&] { read_record(root / "r.json"); }), ContainsSubstring("more than the 1048576 bytes"));
  CHECK_THAT(refused([&] { read_record(root / "none.json"); }), ContainsSubstring("none.json"));
}
