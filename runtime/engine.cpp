#include "runtime/engine.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <c10/core/ScalarType.h>

#include "base/error.h"
#include "cache/plan_text.h"
#include "runtime/random_model.h"
#include "runtime/timeline.h"

namespace longtake {
namespace {

void add_note(std::string* note, const std::string& text) {
  if (note != nullptr) *note += (note->empty() ? "" : "; ") + text;
}

// Prompts over time, where the options have them; the context of a video that is gone on from comes before their 0.
void choose_texts(const GenerateOptions& o, RunRequest& request, std::string* note) {
  GenerateSettings& s = request.settings;
  if (o.prompts.empty()) return;
  const std::vector<TimedPrompt> prompts = parse_timeline(o.prompts, "prompts");
  const int before = s.show_given ? 0 : s.plan.request.given_frames;
  check_timeline_end(prompts, static_cast<double>(s.plan.request.frames - before) / o.fps, static_cast<double>(temporal_stride) / o.fps);
  request.prompts.clear();
  for (const TimedPrompt& prompt : prompts) {
    request.prompts.push_back(prompt.text);
    s.texts.push_back(prompt.begin == 0 ? 0 : before + prompt.begin * o.fps);
  }
  std::vector<bool> used(prompts.size());
  for (const WindowSpan& window : s.plan.windows)
    for (const ChunkSpan& chunk : window_chunks(window, s.plan.request.chunk)) used[text_of_chunk(s, window, chunk)] = true;
  for (size_t i = 0; i < prompts.size(); ++i)
    if (!used[i])
      add_note(note, fmt::format("prompt {} has no effect: no chunk has its middle between {} and {} s; use a smaller --chunk, or a longer range",
                                 i + 1, prompts[i].begin, prompts[i].end));
}

}  // namespace

std::vector<std::string> RunRequest::all_texts() const {
  std::vector<std::string> texts = prompts;
  if (settings.denoise.branches() == 2) texts.push_back(negative);
  return texts;
}

int RunRequest::frames() const {
  const WindowRequest& length = settings.plan.request;
  return length.frames - (settings.show_given ? 0 : length.given_frames);
}

RunRequest make_request(const GenerateOptions& o, std::string* note) {
  RunRequest request;
  request.prompts = {o.prompt};
  request.negative = o.negative;
  request.seed = o.seed.value_or(0);
  request.parity = o.parity != "none";
  request.fps = o.fps;
  request.policy = o.plan.empty() ? choose_policy(parse_policy(o.policy), request.parity) : choose_plan(read_plan(o.plan));
  GenerateSettings& s = request.settings;
  s.plan = plan_video(o, note);
  s.show_given = o.video.empty();
  s.height = o.size.height;
  s.width = o.size.width;
  s.steps = o.steps;
  s.shift = o.shift;
  s.ar_step = o.ar_step;
  s.history = o.history == "carry" ? History::carry : History::reencode;
  s.decode_latents = o.decode_latents > 0 ? o.decode_latents : kUsualDecodeLatents;
  s.checkpoint_bytes = o.checkpoint_budget;
  s.denoise.attention = request.policy.attention;
  s.denoise.kv = choose_kv(o.kv, s.denoise.attention);
  if (!o.end_image.empty() && s.denoise.kv.compresses())
    fail_usage("--kv {} would forget the end image, which all chunks attend to; leave out --kv or --end-image", o.kv);
  s.denoise.guidance = o.guidance;
  s.denoise.prefix_noise = o.addnoise;
  if (const auto* replay = std::get_if<PlanSettings>(&request.policy.settings)) {
    if (replay->plan->extras) fail_usage("{} has the base 'none', which only plans of MAGI-1 have; leave out its field 'base'", o.plan);
    check_plan(*replay->plan, plan_geometry(s), o.plan);
  }
  choose_texts(o, request, note);
  s.denoise.noise_every_row = s.denoise.overwritten_first_sample = request.parity;
  return request;
}

StepModel step_model(const Recipe& recipe, std::function<at::Tensor(double)> embedding, int64_t dim) {
  return {std::move(embedding), recipe.architecture.distance == "linear" ? DistanceRule::linear : DistanceRule::polynomial, dim};
}

Engine::Engine(ResolvedModel model, const ModelTarget& target, std::optional<uint64_t> random_seed)
    : model_(std::move(model)), target_(target), random_seed_(random_seed) {
  if (!random_seed_) model_.require_files();
}

int64_t Engine::text_length() const { return model_.recipe.architecture.text_len > 0 ? model_.recipe.architecture.text_len : 512; }

void Engine::cache_texts(OnNote on_note) {
  text_cache_ = TextCache::of_model(model_.require_files(), fmt::format("{} tokens, {}", text_length(), c10::toString(target_.dtype)), target_.device,
                                    std::move(on_note));
}

std::vector<std::string> Engine::unknown(const std::vector<std::string>& texts) {
  std::vector<std::string> unknown;
  for (const std::string& text : texts) {
    if (texts_.contains(text) || std::find(unknown.begin(), unknown.end(), text) != unknown.end()) continue;
    auto kept = text_cache_ ? text_cache_->find(text, text_length(), target_.dtype) : std::nullopt;
    if (kept)
      texts_[text] = std::move(*kept);
    else
      unknown.push_back(text);
  }
  return unknown;
}

bool Engine::knows(const std::vector<std::string>& texts) { return unknown(texts).empty(); }

void Engine::encode(const std::vector<std::string>& texts) {
  const std::vector<std::string> fresh = unknown(texts);
  if (fresh.empty()) return;
  std::vector<EncodedText> encoded = random_seed_ ? random_texts(model_.recipe, fresh, text_length(), target_.dtype, *random_seed_)
                                                  : encode_texts(model_.require_files(), fresh, text_length(), target_);
  // In host memory: the texts of a large batch would fill a GPU (4 MB each in bf16), and a run needs two of them.
  for (size_t i = 0; i < fresh.size(); ++i) {
    encoded[i].context = encoded[i].context.cpu();
    if (text_cache_) text_cache_->store(fresh[i], encoded[i]);
    texts_[fresh[i]] = std::move(encoded[i]);
  }
}

const EncodedText& Engine::text(const std::string& text) const {
  const auto found = texts_.find(text);
  LONGTAKE_CHECK(found != texts_.end(), "expected a text that was encoded before");
  return found->second;
}

void Engine::load() {
  if (loaded()) return;
  load_transformer();
  load_vae();
}

void Engine::load_vae() {
  if (!vae_)
    vae_.emplace(random_seed_ ? random_vae(model_.recipe, target_, *random_seed_) : longtake::load_vae(model_.require_files(), target_));
}

void Engine::load_transformer() {
  transformer_.reset();  // two of them may not fit
  transformer_.emplace(random_seed_ ? random_transformer(model_.recipe, target_, *random_seed_)
                                    : longtake::load_transformer(model_.require_files(), target_));
  not_in_fp8_ = fit_to_target(*transformer_, target_);
  attention_.reset();
  attends_in_fp8_ = false;
  if (!transformer_->merged() || !target_.device.is_cuda()) return;
  attention_ = std::make_unique<PlannedAttention>(target_.device);
  // (Where that cannot be, ATen's is no loss of anything that was promised.)
  attention_->try_out(transformer_->dtype(), transformer_->config().heads, transformer_->config().head_width());
}

bool Engine::first_step_is_finite(const RunRequest& request) {
  const auto backbone = backbones(request)(window_geometry(request.settings, request.settings.plan.windows.front()));
  const WindowGeometry& g = backbone->geometry();
  const at::Tensor latents = normal(request.seed, noise_stream(NoiseKind::latents, 0),
                                    {request.settings.latent_channels, g.chunks[0].frames, g.latent_height, g.latent_width})
                                 .to(target_.device);
  const at::Tensor embedded = backbone->embed(latents);
  const std::vector<double> timesteps(g.chunks[0].frames, flow_timesteps(request.settings.steps, request.settings.shift).front());
  const WorkItem item{.timesteps = timesteps, .keys = {0, g.chunk_tokens(0)}};
  KvCache kv(backbone->kv_shape(), embedded.scalar_type(), target_.device, TokenRange{0, 0});
  kv.grow(item.keys.end);
  const at::Tensor velocity = backbone->head(backbone->forward({&item, 1}, {&embedded, 1}, kv).front(), timesteps);
  return at::isfinite(velocity).all().item<bool>();
}

void Engine::settle_precision(const RunRequest& request, const std::function<void(const std::string&)>& on_note) {
  if (precision_settled_ || !target_.fp8) return;
  precision_settled_ = true;
  load();
  const auto note = [&](const std::string& text) {
    if (on_note) on_note(text);
  };
  if (not_in_fp8_ > 0)
    note(fmt::format("matrix products that stay in bf16 because their sizes are not multiples of 16, or their weights not finite: {}", not_in_fp8_));
  if (attention_) {
    const auto& config = transformer_->config();
    const std::string& reason = attention_->try_out(at::kFloat8_e4m3fn, config.heads, config.head_width());
    attends_in_fp8_ = reason.empty();
    if (!attends_in_fp8_) note(fmt::format("attention stays in bf16, with products in fp8: {}", reason));
  }
  if (first_step_is_finite(request)) return;
  note("the first step in fp8 is not finite: loading the model again in bf16");
  target_.fp8 = false;
  load_transformer();
}

const skyreels::TextKv& Engine::text_kv(const std::string& text) {
  const auto found = text_kv_.find(text);
  if (found != text_kv_.end()) return found->second;
  return text_kv_.emplace(text, skyreels::prepare_text(*transformer_, this->text(text).context.to(target_.device))).first->second;
}

BackboneFactory Engine::backbones(const RunRequest& request) {
  load();
  const std::vector<std::string> wanted = request.all_texts();
  std::erase_if(text_kv_, [&](const auto& kv) { return std::find(wanted.begin(), wanted.end(), kv.first) == wanted.end(); });
  std::vector<const skyreels::TextKv*> prompts;
  for (const std::string& prompt : request.prompts) prompts.push_back(&text_kv(prompt));
  std::vector<const skyreels::TextKv*> texts{prompts.front()};
  if (request.settings.denoise.branches() == 2) texts.push_back(&text_kv(request.negative));
  // Models with an embedding of the frame rate know 16 fps and everything else (24).
  const int fps_index = request.fps == 16 ? 0 : 1;
  // Compressed keys carry a bias, which attention in fp8 does not take, and compression computes with keys and values.
  const skyreels::RowAttention attention{attention_.get(), attends_in_fp8_ && !request.settings.denoise.kv.compresses()};
  return [this, texts, prompts, fps_index, attention](const WindowGeometry& g) {
    return std::make_unique<skyreels::SkyReelsBackbone>(*transformer_, texts, g, fps_index, prompts, attention);
  };
}

StepModel Engine::steps(const RunRequest& request) {
  const std::shared_ptr<const Backbone> probe = backbones(request)(window_geometry(request.settings, request.settings.plan.windows.front()));
  return step_model(model_.recipe, [probe](double t) { return probe->step_embedding(t); }, transformer_->config().dim);
}

RunStats Engine::run(const RunRequest& request, const GenerateHooks& hooks, RunFolder* folder, CachePolicy* policy) {
  settle_precision(request, hooks.on_note);
  if (attention_) {
    attention_->on_refusal = [note = hooks.on_note](const std::string& why) {
      if (note) note(fmt::format("cuDNN refused {}; such calls run through LibTorch, in bf16", why));
    };
    if (const std::string why = attention_->take_slower_because(); !why.empty() && hooks.on_note)
      hooks.on_note(fmt::format("longtake's attention kernel does not work, and a slower one takes its place: {}", why));
  }
  if (attends_in_fp8_) {
    if (request.settings.denoise.kv.compresses() && hooks.on_note)
      hooks.on_note(fmt::format("attention stays in bf16 with --kv {}, and products in fp8", request.settings.denoise.kv.text));
  }
  std::unique_ptr<CachePolicy> own;
  if (policy == nullptr) {
    own = make_policy(request.policy, flow_timesteps(request.settings.steps, request.settings.shift), steps(request),
                      request.settings.denoise.branches());
    policy = own.get();
  }
  std::unique_ptr<NoiseSource> noise;
  if (request.parity)
    noise = std::make_unique<TorchNoise>(request.seed, request.seed);
  else
    noise = std::make_unique<PhiloxNoise>(request.seed);
  return generate(request.settings, backbones(request), *vae_, *policy, *noise, target_.device, hooks, folder);
}

void Engine::decode(const VideoRequest& request, const RunFolder& folder, const GenerateHooks& hooks) {
  load_vae();
  decode_folder(dynamic_cast<const RunRequest&>(request).settings, *vae_, hooks, folder);
}

}  // namespace longtake
