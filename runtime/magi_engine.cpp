#include "runtime/magi_engine.h"

#include "base/error.h"
#include "cache/plan_text.h"
#include "runtime/magi_policies.h"
#include "runtime/magi_prompts.h"
#include "runtime/magi_recipe.h"
#include "runtime/magi_texts.h"
#include "runtime/stopwatch.h"

namespace longtake {
namespace {

constexpr size_t kDecodeQueue = 2;   // chunks are large
constexpr int64_t kLatentPixel = 8;  // side of a latent pixel, with either VAE

// A video is one window, a picture that it begins with is shown, a video's end is not.
class MagiWindowDecoder final : public WindowDecoder {
 public:
  MagiWindowDecoder(const MagiRequest& request, const MagiCodec& codec, const GenerateHooks& hooks)
      : size_(request.settings().size), at_once_(request.decode_latents), codec_(codec), hooks_(hooks) {}

  void begin_window(int, const at::Tensor& prefix) override {
    {
      const Stopwatch watch(seconds_);
      decoder_ = codec_.decoder();
      if (size_.prefix_frames > 1)
        for (const at::Tensor& group : prefix.split(at_once_, 1)) decoder_->pass_over(group);
    }
    if (size_.prefix_frames == 1 && size_.first == 1) hand_out(prefix);  // a picture that is a chunk of its own
  }

  void decode(int, int chunk, const at::Tensor& latents) override {
    const KeyRange shown = size_.emitted(chunk);
    if (shown.begin < shown.end) hand_out(latents.narrow(1, shown.begin - int64_t{chunk} * size_.chunk_frames, shown.end - shown.begin));
  }

  void end_window() override {}
  double seconds() const override { return seconds_; }

 private:
  void hand_out(const at::Tensor& latents) {
    const Stopwatch watch(seconds_);
    for (const at::Tensor& group : latents.split(at_once_, 1)) {
      const at::Tensor frames = decoder_->decode(group);
      if (hooks_.on_frames) hooks_.on_frames(frames);
    }
  }

  const magi::VideoSize size_;
  const int64_t at_once_;  // latent frames
  const MagiCodec& codec_;
  const GenerateHooks& hooks_;
  std::unique_ptr<MagiDecoder> decoder_;
  double seconds_ = 0;
};

// What the request is denoised with.
struct MagiParts {
  const magi::Transformer& transformer;
  PlannedAttention* attention;
  const MagiCodec& codec;
  std::vector<at::Tensor> captions;  // of the request's prompts
  const magi::SpecialTokens& special_tokens;
  CachePolicy& policy;
  NoiseSource& noise;
  at::Device device;
};

class MagiWindow final : public WindowMaker {
 public:
  MagiWindow(const MagiRequest& request, const MagiParts& parts) : request_(request), parts_(parts), settings_(request.settings()) {}

  // In the order of memory that it is read back in from a folder: VAEs differ in their last bits where that differs.
  at::Tensor encode_prefix(int) override { return parts_.codec.encode(request_.given).contiguous(); }
  at::Tensor encode_end_picture(int) override { return {}; }
  void take_up(int, const at::Tensor&, const State&) override { LONGTAKE_CHECK(false, "expected a video in one window"); }

  at::Tensor denoise(int, const GivenLatents& given, RunStats& stats, const DenoiseHooks& hooks, const State* resume) override {
    const magi::RunConfig& run = request_.config.run;
    const magi::VideoTexts texts(parts_.transformer, parts_.captions, request_.prompt_of, parts_.special_tokens, request_.special_tokens, settings_.size);
    const magi::MagiBackbone backbone(parts_.transformer, texts.branches(settings_.own_keys), texts.none(),
                                      magi::video_geometry(settings_.size, run.height / kLatentPixel, run.width / kLatentPixel), parts_.attention);
    return magi::denoise_video(backbone, parts_.policy, settings_, given.prefix, parts_.noise, parts_.device, stats, hooks, resume);
  }

 private:
  const MagiRequest& request_;
  const MagiParts& parts_;
  const magi::VideoSettings settings_;
};

}  // namespace

int MagiRequest::prefix_frames() const {
  return given_frames > 1 ? (given_frames + config.run.missing_frames) / config.run.temporal_downsample : given_frames;
}

magi::VideoSettings MagiRequest::settings() const {
  magi::VideoSettings settings = magi::VideoSettings::of(config, prefix_frames());
  magi::set_up(settings, policy);
  return settings;
}

int MagiRequest::frames() const {
  const magi::VideoSize size = settings().size;
  const int hidden = size.prefix_frames > 1 ? size.prefix_frames : 0;  // latent frames
  return (size.frames() - hidden) * config.run.temporal_downsample - (hidden == 0 ? config.run.missing_frames : 0);
}

RunLayout MagiRequest::layout() const {
  const magi::VideoSettings s = settings();
  const std::vector<magi::Row> rows = magi::rows(s.schedule, s.size);
  RunLayout::Window window{.chunks = {}, .given = s.size.first, .rows = static_cast<int>(rows.size()), .steps = s.schedule.steps,
                           .prefix = s.size.prefix_frames, .apart = s.size.first * s.size.chunk_frames};
  for (int c = 0; c < s.size.chunks; ++c) window.chunks.push_back({c * s.size.chunk_frames, s.size.chunk_frames, -1, c * s.size.chunk_frames});
  for (size_t row = 0; row < rows.size(); ++row)
    if (rows[row].finished >= 0) window.chunks.at(rows[row].finished).last_row = static_cast<int>(row);
  return {.channels = config.model.latent_channels(), .height = config.run.height / kLatentPixel, .width = config.run.width / kLatentPixel,
          .latent_frames = s.size.frames(), .missing_frames = config.run.missing_frames, .overlap = 0, .windows = {window}};
}

void MagiRequest::give(const at::Tensor& frames, const at::Tensor& end_picture) {
  LONGTAKE_CHECK(!end_picture.defined(), "expected no end picture");
  given = frames;
}

MagiRequest make_magi_request(const Recipe& recipe, const GenerateOptions& o, std::string* note) {
  MagiRequest request;
  request.prompts = {o.prompt};
  request.seed = o.seed.value_or(0);
  request.run.decode_queue = kDecodeQueue;
  request.run.checkpoint_bytes = o.checkpoint_budget;
  request.config = magi_config(recipe, o, note);
  request.decode_latents = request.config.run.chunk_frames;
  if (has_wan_vae(recipe) && o.decode_latents > 0) request.decode_latents = std::min(request.decode_latents, o.decode_latents);
  check_magi_context(recipe, o);
  request.given_frames = !o.image.empty() ? 1 : o.video.empty() ? 0 : o.context;
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

void MagiEngine::cache_texts(OnNote on_note) {
  if (random_seed_) return;
  text_cache_ = TextCache::of_model(model_.require_files(), fmt::format("captions of {} tokens, Float", model_.recipe.architecture.text_len),
                                    target_.device, std::move(on_note));
}

std::vector<std::string> MagiEngine::unknown(const std::vector<std::string>& texts) {
  std::vector<std::string> unknown;
  for (const std::string& text : texts) {
    if (captions_.contains(text) || std::find(unknown.begin(), unknown.end(), text) != unknown.end()) continue;
    if (auto kept = text_cache_ ? text_cache_->find(text, {}, at::kFloat) : std::nullopt)
      captions_[text] = {std::move(kept->context), kept->truncated};
    else
      unknown.push_back(text);
  }
  return unknown;
}

bool MagiEngine::knows(const std::vector<std::string>& texts) { return unknown(texts).empty(); }

void MagiEngine::encode(const std::vector<std::string>& texts) {
  const std::vector<std::string> fresh = unknown(texts);
  if (fresh.empty()) return;
  const std::vector<MagiCaption> encoded =
      random_seed_ ? random_captions(model_.recipe, fresh, *random_seed_) : encode_captions(model_, fresh, target_.device);
  for (size_t i = 0; i < fresh.size(); ++i) {
    if (text_cache_) text_cache_->store(fresh[i], {encoded[i].rows, encoded[i].rows.size(0), encoded[i].truncated});
    captions_[fresh[i]] = encoded[i];
  }
}

const MagiCaption& MagiEngine::caption(const std::string& text) const {
  const auto found = captions_.find(text);
  LONGTAKE_CHECK(found != captions_.end(), "expected a text that was encoded before");
  return found->second;
}

void MagiEngine::load() {
  if (transformer_) return;
  special_tokens_ = random_seed_ ? random_special_tokens(model_.recipe, *random_seed_) : load_special_tokens(model_);
  load_codec();
  transformer_.emplace(random_seed_ ? random_magi_transformer(model_.recipe, target_, *random_seed_)
                                    : load_magi_transformer(model_, target_, quantised_as_));
  if (!target_.device.is_cuda()) return;
  attention_ = std::make_unique<PlannedAttention>(target_.device);
  // (Where that cannot be, ATen's is no loss of anything that was promised.)
  const magi::ModelConfig& c = transformer_->config();
  attention_->try_out(transformer_->dtype(), c.heads, c.head_width, c.kv_heads);
}

void MagiEngine::load_codec() {
  if (codec_) return;
  codec_ = random_seed_ ? random_magi_codec(model_.recipe, target_, *random_seed_) : load_magi_codec(model_, target_);
  if (codec_->patch() != kLatentPixel)
    fail_file("the VAE of {} makes one latent pixel of {} x {}; longtake runs MAGI-1 models where it is {} x {}", model_.recipe.name, codec_->patch(),
              codec_->patch(), kLatentPixel, kLatentPixel);
}

RunStats MagiEngine::run(const MagiRequest& request, const GenerateHooks& hooks, RunFolder* folder) {
  const int64_t given = request.given.defined() ? request.given.size(1) : 0;
  LONGTAKE_CHECK(given == request.given_frames, "expected {} given frames, found {}", request.given_frames, given);
  load();
  if (attention_) {
    attention_->on_refusal = [note = hooks.on_note](const std::string& why) {
      if (note) note(fmt::format("cuDNN refused {}; such calls run through LibTorch", why));
    };
    if (const std::string why = attention_->take_slower_because(); !why.empty() && hooks.on_note)
      hooks.on_note(fmt::format("longtake's attention kernel does not work, and a slower one takes its place: {}", why));
  }
  const std::unique_ptr<CachePolicy> policy = make_latent_policy(request.policy);
  PhiloxNoise noise(request.seed);
  MagiParts parts{*transformer_, attention_.get(), *codec_, {}, *special_tokens_, *policy, noise, target_.device};
  for (const std::string& prompt : request.prompts) parts.captions.push_back(caption(prompt).rows);
  MagiWindow maker(request, parts);
  MagiWindowDecoder decoder(request, *codec_, hooks);
  return run_windows(maker, decoder, request.layout(), request.run, *policy, noise, target_.device, hooks, folder);
}

void MagiEngine::decode(const VideoRequest& request, const RunFolder& folder, const GenerateHooks& hooks) {
  load_codec();
  MagiWindowDecoder decoder(dynamic_cast<const MagiRequest&>(request), *codec_, hooks);
  decode_kept(decoder, request.layout(), target_.device, hooks, folder);
}

LatentPreview MagiEngine::preview() const {
  const bool first_alone = magi_missing_frames(model_.recipe) > 0;
  return LatentPreview([this](const at::Tensor& frames) { return codec_->encode(frames.to(target_.device)); },
                       [this](const at::Tensor& latents) { return codec_->decoder()->decode(latents); }, first_alone);
}

}  // namespace longtake
