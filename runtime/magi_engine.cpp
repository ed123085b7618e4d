#include "runtime/magi_engine.h"

#include <chrono>

#include "base/error.h"
#include "cache/plan_text.h"
#include "runtime/magi_policies.h"
#include "runtime/magi_prompts.h"
#include "runtime/magi_recipe.h"
#include "runtime/magi_texts.h"
#include "runtime/stopwatch.h"
#include "runtime/work_queue.h"

namespace longtake {
namespace {

constexpr size_t kDecodeQueue = 2;  // chunks that may wait before denoising waits for them

using Clock = std::chrono::steady_clock;

struct Stopped {};

// One run: the loop's rows on one side, the VAE on the other.
class MagiRun {
 public:
  MagiRun(const MagiRequest& request, const MagiHooks& hooks, const MagiCodec& codec, const at::Device& device)
      : request_(request), hooks_(hooks), codec_(codec), device_(device), settings_(request.settings()),
        queue_(request.decode_ahead ? kDecodeQueue : 0) {}

  RunStats denoise(const magi::Transformer& transformer, const std::vector<at::Tensor>& captions, const magi::SpecialTokens& tokens) {
    const magi::RunConfig& run = request_.config.run;
    const int64_t patch = codec_.patch();
    const magi::VideoTexts texts(transformer, captions, request_.prompt_of, tokens, request_.special_tokens, settings_.size);
    const magi::MagiBackbone backbone(transformer, texts.branches(settings_.own_keys), texts.none(),
                                      magi::video_geometry(settings_.size, run.height / patch, run.width / patch));
    const std::unique_ptr<CachePolicy> policy = make_latent_policy(request_.policy);
    PhiloxNoise noise(request_.seed);
    const at::Tensor prefix = encode_given();
    // A picture is shown, a video's frames are not.
    decoder_ = codec_.decoder(settings_.size.prefix_frames > 1 ? prefix : at::Tensor());
    DenoiseHooks hooks = hooks_.denoise;
    hooks.on_row_end = [&](const RowEnd& end) { row_ended(end); };
    if (hooks_.on_start) hooks_.on_start();
    row_began_ = Clock::now();
    try {
      const at::Tensor latents = magi::denoise_video(backbone, *policy, settings_, prefix, noise, device_, stats_, hooks);
      if (hooks_.on_latents) hooks_.on_latents(latents);
    } catch (const Stopped&) {
      finish();
      fail(ExitCode::interrupted, "interrupted with {} of {} chunks finished", finished_, settings_.size.chunks - settings_.size.first);
    }
    finish();
    return stats_;
  }

 private:
  at::Tensor encode_given() {
    if (!request_.given.defined()) return {};
    const Stopwatch watch(stats_.encode_seconds);
    return codec_.encode(request_.given);
  }

  void row_ended(const RowEnd& end) {
    const auto now = Clock::now();
    stats_.denoise_seconds += std::chrono::duration<double>(now - row_began_).count();
    for (const int chunk : end.finished) {
      const KeyRange emitted = settings_.size.emitted(chunk);
      ++finished_;
      if (emitted.begin == emitted.end) continue;
      const at::Tensor latents = end.latents.narrow(1, emitted.begin, emitted.end - emitted.begin).clone();
      if (request_.decode_ahead)
        queue_.post([this, latents] { decode(latents); });
      else
        waiting_.push_back(latents);
    }
    if (hooks_.denoise.on_row_end) hooks_.denoise.on_row_end(end);
    if (end.row + 1 < end.rows && hooks_.should_stop && hooks_.should_stop()) throw Stopped{};
    row_began_ = Clock::now();
  }

  void decode(const at::Tensor& latents) {
    const Stopwatch watch(decode_seconds_);
    const at::Tensor frames = decoder_->decode(latents);
    if (hooks_.on_frames) hooks_.on_frames(frames);
  }

  void finish() {
    for (const at::Tensor& latents : waiting_) decode(latents);
    waiting_.clear();
    queue_.wait();
    stats_.decode_seconds = decode_seconds_;
  }

  const MagiRequest& request_;
  const MagiHooks& hooks_;
  const MagiCodec& codec_;
  const at::Device device_;
  const magi::VideoSettings settings_;
  std::unique_ptr<MagiDecoder> decoder_;
  RunStats stats_;
  int finished_ = 0;
  double decode_seconds_ = 0;
  std::vector<at::Tensor> waiting_;  // finished and not decoded; empty with decode_ahead
  Clock::time_point row_began_;
  WorkQueue queue_;  // last: it stops before what its tasks use is gone
};

}  // namespace

int MagiRequest::prefix_frames() const {
  if (!given.defined()) return 0;
  const int64_t frames = given.size(1), step = config.run.temporal_downsample, missing = config.run.missing_frames;
  LONGTAKE_CHECK(frames == 1 || (frames + missing) % step == 0, "expected one given frame or {} less than a multiple of {}, found {}", missing,
                 step, frames);
  return static_cast<int>(frames == 1 ? 1 : (frames + missing) / step);
}

magi::VideoSettings MagiRequest::settings() const {
  magi::VideoSettings settings = magi::VideoSettings::of(config, prefix_frames());
  magi::set_up(settings, policy);
  return settings;
}

int MagiRequest::frames() const {
  const magi::VideoSize size = settings().size;
  int64_t latents = 0;
  for (int chunk = size.first; chunk < size.chunks; ++chunk) latents += size.emitted(chunk).end - size.emitted(chunk).begin;
  const bool from_the_start = size.emitted(size.first).begin == 0;
  return static_cast<int>(latents) * config.run.temporal_downsample - (from_the_start ? config.run.missing_frames : 0);
}

MagiRequest make_magi_request(const Recipe& recipe, const GenerateOptions& o, std::string* note) {
  MagiRequest request;
  request.prompts = {o.prompt};
  request.seed = o.seed.value_or(0);
  request.config = magi_config(recipe, o, note);
  request.special_tokens = magi_text_settings(o.special_tokens);
  if (o.special_tokens != "none" && !has_special_rows(recipe))
    fail_usage("{} has no special rows; leave out --special-tokens", recipe.name);
  if (o.parity == "skyreels-ref") fail_usage("--parity skyreels-ref repeats SkyReels-V2's program; for MAGI-1 there is motioncache-ref");
  request.policy = o.plan.empty() ? choose_policy(parse_policy(o.policy), o.parity != "none", PolicyFamily::latent) : choose_plan(read_plan(o.plan));
  request.policy.parity = o.parity != "none";
  const magi::VideoSize size = magi_video_size(recipe, o, request.config);
  if (const auto* replay = std::get_if<PlanSettings>(&request.policy.settings))
    magi::check_plan(*replay->plan, magi::plan_geometry(size, (o.size.height / 16) * (o.size.width / 16), o.steps), o.plan);
  choose_prompts(recipe, o, request, note);
  request.settings();  // refuses a policy that the model cannot run
  return request;
}

MagiEngine::MagiEngine(ResolvedModel model, const ModelTarget& target, magi::QuantisedAs quantised_as, std::optional<uint64_t> random_seed)
    : model_(std::move(model)), target_(target), quantised_as_(quantised_as), random_seed_(random_seed) {
  if (!random_seed_) model_.require_files();
}

void MagiEngine::encode(const std::vector<std::string>& texts) {
  std::vector<std::string> unknown;
  for (const std::string& text : texts)
    if (!captions_.contains(text) && std::find(unknown.begin(), unknown.end(), text) == unknown.end()) unknown.push_back(text);
  if (unknown.empty()) return;
  const std::vector<MagiCaption> encoded =
      random_seed_ ? random_captions(model_.recipe, unknown, *random_seed_) : encode_captions(model_, unknown, target_.device);
  for (size_t i = 0; i < unknown.size(); ++i) captions_[unknown[i]] = encoded[i];
}

const MagiCaption& MagiEngine::caption(const std::string& text) const {
  const auto found = captions_.find(text);
  LONGTAKE_CHECK(found != captions_.end(), "expected a text that was encoded before");
  return found->second;
}

void MagiEngine::load() {
  if (transformer_) return;
  special_tokens_ = random_seed_ ? random_special_tokens(model_.recipe, *random_seed_) : load_special_tokens(model_);
  codec_ = random_seed_ ? random_magi_codec(model_.recipe, target_, *random_seed_) : load_magi_codec(model_, target_);
  transformer_.emplace(random_seed_ ? random_magi_transformer(model_.recipe, target_, *random_seed_)
                                    : load_magi_transformer(model_, target_, quantised_as_));
}

RunStats MagiEngine::run(const MagiRequest& request, const MagiHooks& hooks) {
  load();
  std::vector<at::Tensor> captions;
  for (const std::string& prompt : request.prompts) captions.push_back(caption(prompt).rows);
  return MagiRun(request, hooks, *codec_, target_.device).denoise(*transformer_, captions, *special_tokens_);
}

}  // namespace longtake
