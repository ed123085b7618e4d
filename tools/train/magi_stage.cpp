#include "tools/train/magi_stage.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <optional>

#include "base/error.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/names.h"
#include "models/weights/safetensors.h"
#include "tools/train/clock.h"
#include "tools/train/magi_batch.h"
#include "tools/train/parameters.h"
#include "tools/train/prompts.h"

namespace longtake::train {
namespace {

constexpr int kMostChunks = 5, kPoolChunks = 8;  // of a window; of a clip
constexpr double kGuidedUntil = 0.3;

// The demo model's texts, which are not trained here.
struct Captions {
  Prompts prompts;
  Umt5Encoder encoder;

  static Captions open(const std::filesystem::path& demo, const at::Device& device) {
    Checkpoint file = Checkpoint::open(demo / "text_encoder" / "model.safetensors");
    NameTranslator translate = umt5_translator(file);
    CheckpointSource source(std::move(file), std::move(translate), device, at::kFloat);
    return {Prompts(demo / "tokenizer" / "spiece.model"), Umt5Encoder(source)};
  }
  // [T, L, dim], and how many rows of each count.
  std::pair<at::Tensor, std::vector<int64_t>> encode(const std::vector<std::string>& captions) const {
    at::NoGradGuard no_grad;
    std::vector<std::vector<int64_t>> ids;
    std::vector<int64_t> lengths;
    for (const std::string& caption : captions) ids.push_back(prompts.ids(caption)), lengths.push_back(static_cast<int64_t>(ids.back().size()));
    return {encode_texts(encoder, ids), lengths};
  }
};

MomentEncoder demo_encoder(const std::filesystem::path& demo) {
  Checkpoint file = Checkpoint::open(demo / "vae" / "diffusion_pytorch_model.safetensors");
  NameTranslator translate = vae_translator(file);
  CheckpointSource source(std::move(file), std::move(translate), at::kCPU, at::kFloat);
  return MomentEncoder::of(source);
}

int draw_chunks(const std::array<double, 3>& mix, demo::Random& random) {
  const double pick = random.uniform(0, mix[0] + mix[1] + mix[2]);
  return pick < mix[0] ? 1 : pick < mix[0] + mix[1] ? 2 : 3 + random.below(kMostChunks - 2);
}

std::map<std::string, at::Tensor> read_weights(const std::filesystem::path& path, const at::Device& device) {
  std::map<std::string, at::Tensor> out;
  const Checkpoint file = Checkpoint::open(path);
  for (const std::string& name : file.names()) out[name] = file.tensor(name).to(device).clone();
  return out;
}

magi::ModelConfig sizes_of(const std::map<std::string, at::Tensor>& weights) {
  int64_t layers = 0;
  while (weights.contains(fmt::format("videodit_blocks.layers.{}.mlp.linear_fc1.weight", layers))) ++layers;
  return demo_magi_config(weights.at("x_embedder.weight").size(0), layers);
}

std::map<std::string, at::Tensor> fresh_weights(const MagiOptions& options) {
  InitSource init([](const std::string&) { return false; }, options.seed);
  magi::Transformer(init, demo_magi_config(options.dim, options.layers), /*distilled=*/false);
  std::map<std::string, at::Tensor> out;
  for (const auto& [name, tensor] : init.parameters()) {
    // All channels pass alike at first: a gate's sign would outlive the norm behind it.
    if (name.ends_with("ada_modulate_layer.proj.0.bias")) tensor.fill_(1);
    out[name] = tensor.to(options.device);
  }
  return out;
}

// What guidance makes of the base model's three branches (magi1.md 3.6).
class Teacher {
 public:
  Teacher(const MagiOptions& options, const magi::ModelConfig& config, at::ScalarType dtype)
      : options_(options), weights_(read_weights(options.folder / "magi.safetensors", options.device)) {
    StepSource source(weights_, dtype);
    model_.emplace(source, config, /*distilled=*/false);
  }

  at::Tensor operator()(const MagiBatch& batch, const at::Tensor& captions, const std::vector<int64_t>& lengths) const {
    at::NoGradGuard no_grad;
    const MagiBranches branches = guidance_windows(batch);
    const auto velocity = [&](const MagiWindows& windows) { return predict(*model_, windows, captions, lengths); };
    const at::Tensor text = velocity(branches.text), null_text = velocity(branches.null_text), alone = velocity(branches.alone);
    const at::Tensor t = batch.windows.times;
    const auto scale = [&](double guided, double plain) {
      const at::Tensor by_chunk = at::where(t < kGuidedUntil, at::ones_like(t) * guided, at::ones_like(t) * plain);
      return by_chunk.repeat_interleave(kMagiChunkFrames, 1).unsqueeze(1).unsqueeze(-1).unsqueeze(-1);
    };
    const at::Tensor p = scale(options_.prev_guidance, 1), s = scale(options_.guidance, 0);
    return (1 - p) * alone + (p - s) * null_text + s * text;
  }

 private:
  const MagiOptions& options_;
  std::map<std::string, at::Tensor> weights_;
  std::optional<magi::Transformer> model_;
};

}  // namespace

magi::ModelConfig demo_magi_config(int64_t dim, int64_t layers) {
  magi::ModelConfig c;
  c.layers = layers, c.dim = dim, c.ffn_dim = 4 * dim, c.head_width = 64, c.heads = dim / 64, c.kv_heads = std::max<int64_t>(1, c.heads / 2);
  c.in_channels = c.out_channels = kLatentChannels;
  c.condition_dim = dim / 4, c.caption_dim = demo_text_sizes().dim, c.caption_length = kTextLength;
  return c;
}

void train_magi(const MagiOptions& options) {
  const std::string name = options.distilled ? "magi-distill" : "magi";
  const auto state = options.folder / (name + ".state.safetensors"), log = options.folder / (name + ".jsonl");
  const Captions texts = Captions::open(options.demo, options.device);
  const LatentPool pool(demo_encoder(options.demo), options.pool, kPoolChunks * kMagiChunkFrames, options.seed + 6000, options.device,
                        options.draw_threads);
  Parameters parameters(options.distilled ? read_weights(options.folder / "magi.safetensors", options.device) : fresh_weights(options),
                        options.average);
  if (std::filesystem::exists(state)) parameters.load(state);
  const magi::ModelConfig config = sizes_of(parameters.tensors());
  const at::ScalarType dtype = options.bfloat16 ? at::kBFloat16 : at::kFloat;
  std::optional<Teacher> teacher;
  if (options.distilled) teacher.emplace(options, config, dtype);
  const auto write = [&] {
    parameters.save(state);
    save_safetensors(options.folder / (name + ".safetensors"), parameters.averaged());
  };

  const MagiBatchOptions draw{options.distilled, kMagiChunkFrames, options.batch_chunks, options.drop_text, options.device};
  Clock clock(options.minutes, options.cpu_time);
  demo::Random random(options.seed + 7000 + static_cast<uint64_t>(parameters.steps()));
  double sum = 0;
  int count = 0;
  while (clock.share() < 1) {
    const MagiBatch batch = draw_magi_batch(draw, draw_chunks(options.mix, random), pool, random);
    const auto [captions, lengths] = texts.encode(batch.captions);
    const at::Tensor target = teacher ? (*teacher)(batch, captions, lengths) : batch.velocity;
    StepSource source(parameters.tensors(), dtype);
    const magi::Transformer model(source, config, options.distilled);
    const at::Tensor velocity = predict(model, batch.windows, captions, lengths);
    const double values = static_cast<double>(target.numel() / batch.weight.numel());
    const at::Tensor loss = ((velocity - target).square() * batch.weight).sum() / (batch.weight.sum().clamp_min(1) * values);
    loss.backward();
    const double norm = parameters.step(clock.rate(options.rate));
    sum += loss.item<double>(), ++count;
    if (parameters.steps() % 20 == 0) {
      log_line(log, {{"step", static_cast<double>(parameters.steps())}, {"seconds", clock.seconds()}, {"loss", sum / count}, {"gradient", norm}});
      fmt::print("{} step {} {:.0f} s loss {:.4f}\n", name, parameters.steps(), clock.seconds(), sum / count);
      std::fflush(stdout);
      sum = count = 0;
    }
    if (parameters.steps() % 200 == 0) write();
  }
  write();
}

}  // namespace longtake::train
