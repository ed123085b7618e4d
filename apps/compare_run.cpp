#include "apps/compare_run.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <fmt/format.h>

#include <chrono>
#include <fstream>

#include "apps/interrupt.h"
#include "apps/video_sink.h"
#include "base/error.h"
#include "runtime/families.h"
#include "video_io/frames.h"
#include "video_io/metadata.h"
#include "video_io/page_parts.h"
#include "base/pending_file.h"
#include "video_io/reader.h"
#include "video_io/tiles.h"
#include "video_io/work_map.h"
#include "video_io/writer.h"

namespace longtake {
namespace {

constexpr int kPicturedClips = 6;  // in the report; pictures are most of its size
constexpr int64_t kStills = 5;
constexpr double kSecondsBetweenReports = 60;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void write_text(const std::filesystem::path& path, const std::string& text) {
  PendingFile file(path);
  std::ofstream out(file.temporary(), std::ios::binary);
  out << text << std::flush;
  if (!out) fail_file("{}", write_error(path, errno));
  out.close();
  file.commit();
}

// A label as part of a file name.
std::string slug(const std::string& label) {
  std::string out;
  for (const char c : label.substr(0, 80))
    out += std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '=' ? c : '_';
  return out;
}

class Runner {
 public:
  Runner(VideoModel& model, const ComparePlan& plan, const std::optional<Lpips>& lpips, Comparison& comparison,
         Progress& progress, JsonLog& log)
      : model_(model), plan_(plan), lpips_(lpips), c_(comparison), progress_(progress), log_(log) {}

  void run() {
    try {
      run_all();
    } catch (const Error& error) {
      // Clips that are done are not lost.
      if (error.code() == ExitCode::interrupted && !c_.runs.empty()) write_reports();
      throw;
    }
  }

 private:
  void run_all() {
    if (plan_.warmup) warm_up();
    int clip = 0;
    for (const uint64_t seed : c_.seeds)
      for (size_t prompt = 0; prompt < c_.prompts.size(); ++prompt, ++clip) {
        make_clip(clip, static_cast<int>(prompt), seed);
        const bool last = clip + 1 == static_cast<int>(c_.prompts.size() * c_.seeds.size());
        if (last || now() - reported_ > kSecondsBetweenReports) write_reports();
      }
  }

  // What a run leaves in memory until its clip is measured.
  struct Made {
    ClipRun run;
    at::Tensor frames, decoded;  // raw, and the mp4's; undefined where the run failed
    at::Tensor heat;
    int missing_frames = 0;  // RunLayout
  };

  GenerateOptions options_of(int policy, int prompt, uint64_t seed) const {
    GenerateOptions o = plan_.options[policy].values();
    o.prompt = c_.prompts[prompt];
    o.seed = seed;
    return o;
  }

  std::string clip_name(int prompt, uint64_t seed) const { return fmt::format("p{:02}-s{}", prompt + 1, seed); }

  // One run, timed: nothing but generating happens between the two looks at the clock.
  Made generate_clip(int policy, int prompt, uint64_t seed, const std::string& title) {
    const GenerateOptions options = options_of(policy, prompt, seed);
    const std::unique_ptr<VideoRequest> request = make_video_request(plan_.recipe, options);
    plan_.inputs->give(*request);
    const RunLayout layout = request->layout();
    Made made;
    made.run.policy = policy, made.run.prompt = prompt, made.run.seed = seed;
    WorkMap work(layout);
    RunProgress shown(progress_, log_, layout, title);
    GenerateHooks hooks = shown.hooks();
    hooks.denoise.on_decision = [&work, &made, inner = hooks.denoise.on_decision](const DecisionRecord& record) {
      inner(record);
      work.add(record);
      made.run.tokens += record.tokens, made.run.recomputed += record.recomputed;
    };
    std::vector<at::Tensor> frames;
    hooks.on_frames = [&](const at::Tensor& part) { frames.push_back(to_frames(part).cpu()); };
    hooks.should_stop = InterruptGuard::requested;
    const PeakMemory memory(model_.target().device);
    const OtherLoad load;
    const double start = now(), cpu = process_cpu_seconds();
    const RunStats stats = model_.run(*request, hooks, nullptr);
    made.run.total_seconds = now() - start;
    made.run.cpu_seconds = process_cpu_seconds() - cpu;
    made.run.other_load = load.share();
    made.run.peak_bytes = memory.bytes();
    made.run.denoise_seconds = stats.denoise_seconds, made.run.encode_seconds = stats.encode_seconds,
    made.run.decode_seconds = stats.decode_seconds;
    made.run.flops = stats.total().flops, made.run.flops_without_reuse = made.run.flops + stats.total().flops_saved;
    made.run.share_by_step = work.by_step();
    made.heat = work.by_place();
    made.missing_frames = layout.missing_frames;
    made.frames = at::cat(frames);
    return made;
  }

  void warm_up() {
    const int policy = static_cast<int>(c_.policies.size()) - 1;
    try {
      Made made = generate_clip(policy, 0, c_.seeds.front(), "warm-up: ");
      c_.warmup = fmt::format("{} on prompt 1 with seed {}, {:.1f} s", c_.policies[policy].entry.label,
                              c_.seeds.front(), made.run.total_seconds);
      warmup_frames_ = made.frames;
    } catch (const std::exception& error) {
      // It will fail again as a measured run, and be listed then.
      rethrow_interrupt(error);
      c_.warmup = fmt::format("{} on prompt 1, which failed", c_.policies[policy].entry.label);
    }
  }

  static void rethrow_interrupt(const std::exception& error) {
    if (const auto* known = dynamic_cast<const Error*>(&error); known && known->code() == ExitCode::interrupted) throw;
  }

  void make_clip(int clip, int prompt, uint64_t seed) {
    const int count = static_cast<int>(c_.policies.size());
    std::vector<Made> made(count);
    const size_t first_run = c_.runs.size();
    for (int i = 0; i < count; ++i) {
      const int policy = (i + clip) % count;
      const int order = static_cast<int>(first_run) + i + 1;
      Made& m = made[policy];
      try {
        m = generate_clip(policy, prompt, seed,
                          fmt::format("run {}/{}, {}: ", order, c_.planned_runs, c_.policies[policy].entry.label));
        write_clip(m);
      } catch (const std::exception& error) {
        rethrow_interrupt(error);
        m = Made{};
        m.run.policy = policy, m.run.prompt = prompt, m.run.seed = seed;
        const std::string text = error.what();
        m.run.error = text.empty() ? "unknown error" : text.substr(0, text.find('\n'));
        progress_.note(fmt::format("run {} ({}) failed: {}", order, c_.policies[policy].entry.label, m.run.error));
      }
      m.run.order = order;
      log_.event({{"event", "run"},
                  {"order", order},
                  {"policy", c_.policies[policy].entry.label},
                  {"prompt", prompt},
                  {"seed", seed},
                  {"error", m.run.error},
                  {"denoise_seconds", m.run.denoise_seconds},
                  {"total_seconds", m.run.total_seconds}});
    }
    if (warmup_frames_.defined()) {
      if (made.back().frames.defined()) c_.repeatable = at::equal(made.back().frames, warmup_frames_);
      warmup_frames_.reset();
    }
    progress_.stage(fmt::format("measuring prompt {}, seed {}", prompt + 1, seed));
    for (Made& m : made)
      if (m.run.done()) evaluate(m, made);
    picture(made, clip, prompt, seed);
    for (int i = 0; i < count; ++i) c_.runs.push_back(std::move(made[(i + clip) % count].run));
  }

  VideoWriterOptions writer_options(const GenerateOptions& o, const std::filesystem::path& path,
                                    const at::Tensor& frame) const {
    return {.path = path,
            .width = static_cast<int>(frame.size(1)),
            .height = static_cast<int>(frame.size(0)),
            .fps = o.fps,
            .crf = o.crf,
            .preset = o.preset,
            .tags = {}};
  }

  void write_clip(Made& m) {
    const GenerateOptions options = options_of(m.run.policy, m.run.prompt, m.run.seed);
    const ClipRun& run = m.run;
    m.run.video = fmt::format("videos/{}-{}-{}.mp4", clip_name(run.prompt, run.seed), run.policy + 1,
                              slug(c_.policies[run.policy].entry.label));
    VideoWriterOptions writer = writer_options(options, plan_.folder / m.run.video, m.frames[0]);
    OptionSet settings = plan_.options[run.policy];
    settings.set({"prompt", options.prompt, "compare"}, SourceLevel::flag);
    settings.set({"seed", fmt::format("{}", run.seed), "compare"}, SourceLevel::flag);
    writer.tags = record_tags(nlohmann::json(video_record(options, settings.to_json(options_without_effect(plan_.recipe)))));
    VideoWriter out(writer);
    out.push(m.frames);
    out.finish();
    m.decoded = read_video(plan_.folder / m.run.video);
  }

  // Against every baseline that has a clip, except itself.
  void measure_closeness(const Made& m, const std::vector<Made>& made, at::Tensor Made::*frames,
                         std::array<std::optional<Closeness>, kBaselines.size()>& results) const {
    std::vector<at::Tensor> references;
    std::vector<size_t> which;
    for (size_t b = 0; b < kBaselines.size(); ++b) {
      const int policy = c_.policy_index(kBaselines[b]);
      if (policy < 0 || policy == m.run.policy || !made[policy].run.done()) continue;
      references.push_back(made[policy].*frames), which.push_back(b);
    }
    std::vector<FrameQuality> quality = compare_frames(references, m.*frames);
    for (size_t i = 0; i < which.size(); ++i) {
      Closeness close{std::move(quality[i]), {}};
      if (lpips_) close.lpips = lpips_->distance(references[i], m.*frames);
      results[which[i]] = std::move(close);
    }
  }

  void evaluate(Made& m, const std::vector<Made>& made) const {
    measure_closeness(m, made, &Made::frames, m.run.raw);
    measure_closeness(m, made, &Made::decoded, m.run.encoded);
    m.run.seams = measure_seams(m.frames, c_.borders);
    const demo::SceneQuery scene = demo::parse_caption(c_.prompts[m.run.prompt]);
    if (!scene.colour && !scene.shape && !scene.motion) return;
    const ClipMeasurement measured = measure_clip(m.frames);
    m.run.following = compare_with_prompt(measured, scene);
    m.run.following_report = follow_report(measured, scene);
  }

  std::string tile_note(const Made& m, const std::vector<Made>& made) const {
    std::string note =
        fmt::format("recomputed {:.0f} %\n{:.2f} s denoising", 100 * m.run.recomputed_share(), m.run.denoise_seconds);
    const int causal = c_.policy_index("causal");
    if (causal >= 0 && causal != m.run.policy && made[causal].run.done())
      note += fmt::format("\n{:.2f}x causal\n{:.1f} dB to causal",
                          made[causal].run.denoise_seconds / m.run.denoise_seconds, m.run.raw[0]->quality.pooled_psnr);
    return note;
  }

  void picture(const std::vector<Made>& made, int clip, int prompt, uint64_t seed) {
    const bool video = plan_.side_by_side == SideBySide::all || (plan_.side_by_side == SideBySide::first && clip == 0);
    const bool stills = clip < kPicturedClips;
    std::vector<Tile> tiles;
    std::vector<int> policies;
    for (const Made& m : made) {
      if (!m.run.done()) continue;
      tiles.push_back({c_.policies[m.run.policy].entry.label, tile_note(m, made), m.frames, m.heat, m.missing_frames});
      policies.push_back(m.run.policy);
    }
    if (tiles.empty() || !(video || stills)) return;
    ClipPictures pictures;
    pictures.prompt = prompt, pictures.seed = seed;
    const int64_t frames = tiles.front().frames.size(0);
    if (video) {
      pictures.side_by_side = fmt::format("videos/side-by-side-{}.mp4", clip_name(prompt, seed));
      if (stills) pictures.poster = tile_frame(tiles, frames / 2);
      VideoWriter out(
          writer_options(plan_.options.front().values(), plan_.folder / pictures.side_by_side, tile_frame(tiles, 0)));
      for (int64_t t = 0; t < frames; ++t) out.push(tile_frame(tiles, t).unsqueeze(0));
      out.finish();
    }
    if (stills) {
      for (int64_t i = 0; i < std::min(kStills, frames); ++i)
        pictures.times.push_back(frames == 1 ? 0 : i * (frames - 1) / (std::min(kStills, frames) - 1));
      const int causal = c_.policy_index("causal");
      const at::Tensor reference = causal >= 0 ? made[causal].frames : at::Tensor();
      if (reference.defined()) pictures.difference_from = "causal";
      for (size_t i = 0; i < tiles.size(); ++i)
        pictures.strips.push_back({policies[i], film_strip(tiles[i], reference, pictures.times)});
    }
    pictures_.push_back(std::move(pictures));
  }

  void write_reports() {
    write_text(plan_.folder / "results.json",
               comparison_json(c_).dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    write_text(plan_.folder / "results.csv", comparison_csv(c_));
    write_text(plan_.folder / "report.html", comparison_page(c_, pictures_));
    reported_ = now();
  }

  VideoModel& model_;
  const ComparePlan& plan_;
  const std::optional<Lpips>& lpips_;
  Comparison& c_;
  Progress& progress_;
  JsonLog& log_;
  at::Tensor warmup_frames_;
  std::vector<ClipPictures> pictures_;
  double reported_ = now();
};

}  // namespace

void run_comparison(VideoModel& model, const ComparePlan& plan, const std::optional<Lpips>& lpips, Comparison& comparison,
                    Progress& progress, JsonLog& log) {
  Runner(model, plan, lpips, comparison, progress, log).run();
}

}  // namespace longtake
