#include "apps/batch_loop.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <ctime>
#include <set>

#include "apps/commands.h"
#include "apps/fingerprint.h"
#include "apps/model_family.h"
#include "apps/run_inputs.h"
#include "apps/run_progress.h"
#include "apps/scratch_folder.h"
#include "apps/video_sink.h"
#include "base/error.h"
#include "base/utf8.h"
#include "runtime/device.h"
#include "runtime/families.h"
#include "runtime/machine.h"
#include "runtime/video_model.h"
#include "video_io/digest.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// Jobs that one loaded model serves.
struct Group {
  ResolvedModel model;
  std::string weights;  // fingerprint
  std::vector<const BatchJob*> jobs;
};

// A picture or a video of one job that cannot be read: the others have theirs.
struct BadInput : Error {
  using Error::Error;
};

std::string group_key(const GenerateOptions& o) { return o.model + '\n' + o.device + '\n' + o.dtype + '\n' + o.precision + '\n' + o.vae_dtype; }

class Batch {
 public:
  Batch(const BatchRun& run, Progress& progress, JsonLog& log) : run_(run), progress_(progress), log_(log) {}

  // Sorts this shard's jobs into groups, and leaves out those that are done.
  void plan() {
    std::map<std::string, size_t> index;
    std::vector<std::string> others;
    size_t other_count = 0;
    progress_.stage("looking at what is done");
    for (size_t i = 0; i < run_.jobs.size(); ++i) {
      if (!run_.shard.has(i)) continue;
      const BatchJob& job = run_.jobs[i];
      Group& group = group_of(job, index);
      const VideoStatus status = video_status(run_.folder, job, group.model.recipe, group.weights, sha256_of_file);
      if (status.state == VideoState::done) {
        ++skipped_;
        continue;
      }
      if (status.state == VideoState::other && ++other_count && others.size() < 5) others.push_back(fmt::format("{}.mp4 ({})", job.name, status.why));
      group.jobs.push_back(&job);
      ++todo_;
    }
    if (other_count > 0 && !run_.remake && !run_.dry_run)
      fail_usage("{} video{} in {} {} not what is asked for now: {}{}; make them again with --remake, or choose another folder", other_count,
                 other_count == 1 ? "" : "s", run_.folder.videos().string(), other_count == 1 ? "is" : "are", fmt::join(others, ", "),
                 other_count > others.size() ? ", ..." : "");
    if (run_.dry_run)
      for (const std::string& other : others) fmt::print("made otherwise: {}\n", other);
  }

  void make() {
    for (Group& group : groups_)
      if (!group.jobs.empty() && !enough()) make(group);
  }

  size_t todo() const { return todo_; }
  int made() const { return made_; }
  int skipped() const { return skipped_; }
  const std::vector<std::string>& failed() const { return failed_; }
  const std::vector<Group>& groups() const { return groups_; }

 private:
  Group& group_of(const BatchJob& job, std::map<std::string, size_t>& index) {
    const GenerateOptions& o = job.options.values();
    const auto [at, is_new] = index.emplace(group_key(o), groups_.size());
    if (is_new) {
      Group group{resolve_model(o.model, default_search()), "", {}};
      group.weights = weights_fingerprint(group.model.require_files());
      groups_.push_back(std::move(group));
    }
    return groups_[at->second];
  }

  bool enough() const { return run_.limit > 0 && made_ + static_cast<int>(failed_.size()) >= run_.limit; }

  void make(Group& group) {
    const GenerateOptions& first = group.jobs.front()->options.values();
    if (run_.limit > 0) group.jobs.resize(std::min(group.jobs.size(), static_cast<size_t>(run_.limit) - static_cast<size_t>(made_) - failed_.size()));
    const ModelTarget target = model_target(first);
    const RunMemory memory(group.model, target, first, FrameTarget::video);
    const std::unique_ptr<VideoModel> engine = make_video_model(group.model, target, first.precision);
    if (first.text_cache == "on") engine->cache_texts([&](const std::string& text) { progress_.note(text); });
    std::set<std::string> texts;
    std::set<std::string> notes;
    memory_base_ = target.device.is_cpu() ? resident_bytes() : 0;
    for (const BatchJob* job : group.jobs) {
      GenerateOptions o = job->options.values();
      const std::unique_ptr<VideoRequest> request = make_video_request(group.model.recipe, o);
      for (const std::string& text : request->all_texts()) texts.insert(text);
      // How long a video is that is gone on from is known when its turn comes: it is taken for as long as the encoder looks ahead.
      if (!o.video.empty() && !o.only_new) request->shown_frames = kFramesAhead;
      std::string note;
      memory_[job] = {memory.settle(o, *request, !engine->knows(request->all_texts()), note), o.decode_latents};
      if (!note.empty() && notes.insert(note).second) progress_.note(note);
    }
    progress_.stage(fmt::format("encoding {} text{}", texts.size(), texts.size() == 1 ? "" : "s"));
    engine->encode({texts.begin(), texts.end()});
    progress_.stage(fmt::format("loading the model {}", group.model.recipe.name));
    engine->load();
    for (const BatchJob* job : group.jobs) {
      if (enough()) break;
      attempt(*engine, group, *job);
    }
  }

  struct Inputs {
    std::map<std::string, std::string> digests;  // of the files, before they are read
    RunInputs read;
  };
  // Also settles `o`'s context. Errors: BadInput.
  static Inputs inputs_of(const Group& group, GenerateOptions& o) {
    try {
      std::map<std::string, std::string> digests = input_digests(o, sha256_of_file);
      return {std::move(digests), RunInputs(o, context_rule(group.model.recipe, o))};
    } catch (const Error& error) {
      throw BadInput(error.code(), error.what());
    }
  }

  void attempt(VideoModel& engine, const Group& group, const BatchJob& job) {
    std::string problem;
    ExitCode code = ExitCode::internal;
    bool stops = false;
    try {
      make(engine, group, job);
      ++made_;
      return;
    } catch (const BadInput& error) {
      problem = error.what();
      code = error.code();
    } catch (const Error& error) {
      stops = error.code() == ExitCode::bad_file;
      problem = error.what();
      code = error.code();
    } catch (const std::bad_alloc&) {
      problem = "out of memory";
      code = ExitCode::no_memory;
    } catch (const std::exception& error) {
      problem = error.what();
      problem = problem.substr(0, problem.find('\n'));
    }
    failed_.push_back(job.name);
    progress_.note(fmt::format("{} failed: {}", job.name, problem));
    log_.event({{"event", "failed"}, {"name", job.name}, {"error", problem}});
    write_whole(run_.folder.failure(job.name), json_text({{"name", job.name},
                                                          {"place", job.place},
                                                          {"error", problem},
                                                          {"exit_code", static_cast<int>(code)},
                                                          {"prompt", prompt_text(job.options.values())},
                                                          {"seed", *job.options.values().seed},
                                                          {"when", now()},
                                                          {"shard", shard_text()}},
                                                         2) +
                                                   "\n");
    // The next video would meet the same full disk or lost folder, after hours.
    if (stops) throw Error(code, problem);
  }

  void make(VideoModel& engine, const Group& group, const BatchJob& job) {
    GenerateOptions o = job.options.values();
    const Progress clock(/*quiet=*/true);
    const fs::path work = run_.folder.workplace(run_.shard) / "video.mp4";
    o.out = work;
    const auto [digests, inputs] = inputs_of(group, o);
    if (!inputs.note().empty()) progress_.note(fmt::format("{}: {}", job.name, inputs.note()));
    VideoSink sink(o, job.options.to_json(options_without_effect(group.model.recipe)));
    const Planned& planned = memory_.at(&job);
    o.decode_latents = planned.decode_latents;
    const std::unique_ptr<VideoRequest> request = make_video_request(group.model.recipe, o);
    inputs.give(*request);
    inputs.show(sink);
    for (const std::string& prompt : request->all_prompts())
      if (engine.truncated(prompt)) progress_.note(fmt::format("{}: the prompt is longer than the {} tokens this model reads: the rest has no effect", job.name, engine.text_length()));
    log_.event({{"event", "video"}, {"name", job.name}, {"number", made_ + failed_.size() + 1}, {"of", todo_}, {"seed", *o.seed}});
    RunProgress progress(progress_, log_, request->layout(), fmt::format("{}/{} {}: ", made_ + failed_.size() + 1, todo_, printable(job.name)));
    GenerateHooks hooks = progress.hooks();
    hooks.on_latents = [&](int window, const at::Tensor& latents) { sink.latents(window, latents); };
    hooks.on_frames = [&](const at::Tensor& frames) { sink.frames(frames); };
    const PeakMemory memory(engine.target().device);
    const RunStats stats = engine.run(*request, hooks, nullptr);
    sink.finish();
    const int64_t peak = std::max<int64_t>(0, memory.bytes() - memory_base_);
    const double seconds = clock.seconds();

    const WorkCount total = stats.total();
    ordered_json record;
    record["name"] = job.name;
    record["file"] = fs::relative(run_.folder.video(job.name), run_.folder.root()).string();
    record["bytes"] = fs::file_size(work);
    record["sha256"] = sha256_of_file(work);
    record["prompt"] = prompt_text(o);
    record["seed"] = *o.seed;
    if (job.about.is_object()) record.update(job.about);
    record["program"] = fmt::format("longtake {}", kVersion);
    record["model"] = group.model.recipe.name;
    record["weights"] = group.weights;
    record["settings"] = video_settings(job.options, group.model.recipe);
    if (!digests.empty()) record["inputs"] = digests;
    record["frames"] = inputs.shown_frames() + sink.frame_count();
    record["device"] = engine.target().device.str();
    record["seconds"] = seconds;
    record["denoise_seconds"] = stats.denoise_seconds;
    record["decode_seconds"] = stats.decode_seconds;
    record["tokens_recomputed"] = total.recomputed;
    record["tokens_reused"] = total.reused;
    record["flops"] = total.flops;
    record["flops_saved"] = total.flops_saved;
    const MemoryPlan& plan = planned.memory;
    record["memory"] = {{"predicted_bytes", std::llround(std::max(plan.denoise.total(), plan.decode.total()))}, {"peak_bytes", peak}};
    record["finished"] = now();
    record["shard"] = shard_text();
    write_whole(run_.folder.record(job.name), json_text(record, 2) + "\n");
    const fs::path video = run_.folder.video(job.name);
    std::error_code error;
    fs::create_directories(video.parent_path(), error);
    fs::rename(work, video, error);
    if (error) fail_file("{}: cannot be put in place ({})", video.string(), error.message());
    fs::remove(run_.folder.failure(job.name), error);
    log_.event({{"event", "done"}, {"name", job.name}, {"seconds", seconds}});
  }

  std::string shard_text() const { return fmt::format("{}/{}", run_.shard.index, run_.shard.count); }
  static std::string now() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

  const BatchRun& run_;
  Progress& progress_;
  JsonLog& log_;
  struct Planned {
    MemoryPlan memory;
    int decode_latents = 0;
  };
  std::map<const BatchJob*, Planned> memory_;
  int64_t memory_base_ = 0;  // what the process held before the present group's model
  std::vector<Group> groups_;
  size_t todo_ = 0;
  int made_ = 0, skipped_ = 0;
  std::vector<std::string> failed_;
};

}  // namespace

void run_batch(const BatchRun& run) {
  Progress progress;
  JsonLog log(run.dry_run ? "" : run.json_log);
  Batch batch(run, progress, log);
  if (run.dry_run) {
    batch.plan();
    for (const Group& group : batch.groups())
      for (const BatchJob* job : group.jobs)
        fmt::print("{}.mp4  seed {}  {}\n", job->name, *job->options.values().seed, printable(prompt_text(job->options.values())));
    fmt::print("{} videos to make, {} done\n", batch.todo(), batch.skipped());
    return;
  }
  // Two runs of one shard would make everything twice.
  const ScratchFolder lock(run.folder.workplace(run.shard), fmt::format("shard {}/{} of {}", run.shard.index, run.shard.count, run.folder.root().string()));
  batch.plan();
  write_job_names(run.folder, run.jobs);
  if (run.threads > 0) at::set_num_threads(run.threads);
  log.event({{"event", "start"}, {"version", kVersion}, {"videos", batch.todo()}, {"done", batch.skipped()}});
  const c10::InferenceMode inference;
  batch.make();

  std::vector<std::string> names;
  for (const BatchJob& job : run.jobs) names.push_back(job.name);
  write_manifest(run.folder, names);
  fmt::print("{} made, {} were done, {} failed, {:.1f} s: {}\n", batch.made(), batch.skipped(), batch.failed().size(), progress.seconds(),
             run.folder.videos().string());
  const std::vector<std::string>& failed = batch.failed();
  constexpr size_t shown = 5;
  if (!failed.empty())
    fail(ExitCode::partial, "{} of {} videos failed: {}{}; the errors are in {}; run the same command again to try them once more", failed.size(),
         batch.todo(), fmt::join(failed.begin(), failed.begin() + static_cast<std::ptrdiff_t>(std::min(shown, failed.size())), ", "),
         failed.size() > shown ? ", ..." : "", (run.folder.meta() / "failed").string());
}

void print_batch_status(const BatchFolder& folder, bool as_json) {
  const std::vector<std::string> names = read_job_names(folder);
  const BatchSummary summary = summarize(folder, names);
  if (as_json) {
    ordered_json failed = ordered_json::array();
    for (const auto& failure : summary.failed) failed.push_back({{"name", failure.name}, {"error", failure.error}});
    fmt::print("{}\n", json_text({{"videos", names.size()},
                                  {"done", summary.done},
                                  {"failed", failed},
                                  {"missing", summary.missing},
                                  {"seconds", summary.seconds},
                                  {"bytes", summary.bytes}},
                                 2));
  } else {
    fmt::print("{} of {} videos done, {} failed, {} missing; {:.1f} s of computing, {}\n", summary.done.size(), names.size(), summary.failed.size(),
               summary.missing.size(), summary.seconds, format_bytes(summary.bytes));
    for (const auto& failure : summary.failed) fmt::print("failed: {}: {}\n", failure.name, failure.error);
    constexpr size_t shown = 10;
    for (size_t i = 0; i < summary.missing.size() && i < shown; ++i) fmt::print("missing: {}\n", summary.missing[i]);
    if (summary.missing.size() > shown) fmt::print("missing: ... and {} more (--json lists all)\n", summary.missing.size() - shown);
  }
  if (summary.done.size() < names.size())
    fail(ExitCode::partial, "{} of {} videos are not there yet; run the batch again to make them", names.size() - summary.done.size(), names.size());
}

}  // namespace longtake
