#include "tools/train/dit_stage.h"

#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include "base/error.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/safetensors.h"
#include "tools/train/clock.h"
#include "tools/train/dit_forward.h"
#include "tools/train/latent_pool.h"
#include "tools/train/parameters.h"
#include "tools/train/tokenizer.h"

namespace longtake::train {
namespace {

constexpr int kMostChunks = 5;

struct Batch {
  at::Tensor clean, sigma, timesteps, weight;  // [B, 16, F, 16, 16], [B, 1, F, 1, 1], [B, F], [B, 1, F, 1, 1]
  std::vector<std::vector<int64_t>> ids;
  bool causal = true;
};

Batch draw_batch(const DitOptions& options, const LatentPool& pool, const Prompts& prompts, demo::Random& random) {
  const double pick = random.uniform(0, options.mix[0] + options.mix[1] + options.mix[2]);
  const int chunks = pick < options.mix[0] ? 1 : pick < options.mix[0] + options.mix[1] ? 2 : kMostChunks;
  const int windows = std::max(1, options.batch_chunks / chunks);
  const int64_t frames = chunks * kChunkFrames;
  Batch batch;
  batch.causal = random.uniform() < options.noise.causal_share;
  std::vector<at::Tensor> latents;
  std::vector<float> sigma, weight;
  std::vector<double> timesteps;
  for (int i = 0; i < windows; ++i) {
    const NoisePlan plan = plan_noise(chunks, batch.causal, options.noise, random);
    const LatentPool::Part& part = pool.parts.at(plan.start);
    const int clip = random.below(static_cast<int>(part.scenes.size()));
    latents.push_back(part.latents[clip].narrow(1, 0, frames));
    const bool drop = random.uniform() < options.drop_text;
    batch.ids.push_back(prompts.ids(drop ? "" : training_prompt(part.scenes[clip], random)));
    for (int c = 0; c < chunks; ++c) {
      for (int64_t f = 0; f < kChunkFrames; ++f) {
        sigma.push_back(static_cast<float>(plan.sigma[c]));
        // A clip's first latent frame is of another kind than the others (one pixel frame instead of four), and rare.
        const bool opening = c == 0 && f == 0 && plan.start == demo::Start::beginning;
        weight.push_back(plan.learn[c] ? (opening ? 3.0f : 1.0f) : 0.0f);
        timesteps.push_back(plan.timestep[c]);
      }
    }
  }
  const auto by_frame = [&](const at::Tensor& x) { return x.view({windows, 1, frames, 1, 1}).to(options.device); };
  batch.clean = at::stack(latents).to(at::kFloat);
  batch.sigma = by_frame(at::tensor(sigma)), batch.weight = by_frame(at::tensor(weight));
  batch.timesteps = at::tensor(timesteps, at::TensorOptions().dtype(at::kDouble)).view({windows, frames}).to(options.device);
  return batch;
}

}  // namespace

std::string training_prompt(const demo::Scene& scene, demo::Random& random) {
  // The plain style is what most people write: half of all.
  std::string text = demo::caption(scene, random.uniform() < 0.5 ? 0 : random.below(demo::kCaptionStyles));
  if (random.uniform() < 0.1) text[0] = static_cast<char>(text[0] - 'a' + 'A');
  if (random.uniform() < 0.1) text += '.';
  return text;
}

void train_dit(const DitOptions& options) {
  const auto state = options.folder / "dit.state.safetensors", log = options.folder / "dit.jsonl";
  const auto tokenizer = options.folder / "spiece.model";
  write_tokenizer(tokenizer);
  const Prompts prompts(tokenizer);
  std::map<std::string, at::Tensor> moments;
  const Checkpoint file = Checkpoint::open(options.folder / "moments.safetensors");
  for (const std::string& name : file.names()) moments[name] = file.tensor(name);
  const LatentPool pool(MomentEncoder(moments), options.pool, kMostChunks * kChunkFrames, options.seed + 4000, options.device, options.draw_threads);

  const Umt5Sizes text_sizes = demo_text_sizes();
  const auto config = demo_transformer(options.dim, options.layers, text_sizes.dim);
  InitSource dit_init([](const std::string& name) { return !name.starts_with("fps_") && name.find("k_img") == std::string::npos; }, options.seed);
  skyreels::Transformer(dit_init, config);
  InitSource text_init([](const std::string&) { return true; }, options.seed + 1);
  Umt5Encoder(text_init, text_sizes);
  // One optimiser over both, told apart by prefix.
  std::map<std::string, at::Tensor> all;
  for (const auto& [name, tensor] : dit_init.parameters()) all["dit/" + name] = tensor.to(options.device);
  for (const auto& [name, tensor] : text_init.parameters()) all["text/" + name] = tensor.to(options.device);
  // Padding is never trained: its rows are masked. Words must differ from the start.
  all["text/token_embedding.weight"].mul_(25);
  Parameters parameters(all, options.average);
  if (std::filesystem::exists(state)) parameters.load(state);
  const auto part = [](const std::map<std::string, at::Tensor>& from, const std::string& prefix) {
    std::map<std::string, at::Tensor> out;
    for (const auto& [name, tensor] : from)
      if (name.starts_with(prefix)) out[name.substr(prefix.size())] = tensor;
    return out;
  };
  const auto dit = part(parameters.tensors(), "dit/"), text = part(parameters.tensors(), "text/");
  const auto write = [&] {
    parameters.save(state);
    save_safetensors(options.folder / "dit.safetensors", part(parameters.averaged(), "dit/"));
    save_safetensors(options.folder / "text.safetensors", part(parameters.averaged(), "text/"));
  };

  const at::ScalarType dtype = options.bfloat16 ? at::kBFloat16 : at::kFloat;
  Clock clock(options.minutes, options.cpu_time);
  demo::Random random(options.seed + 5000 + static_cast<uint64_t>(parameters.steps()));
  double sum = 0;
  int count = 0;
  while (clock.share() < 1) {
    const Batch batch = draw_batch(options, pool, prompts, random);
    const at::Tensor target = at::randn(batch.clean.sizes(), batch.clean.options()) - batch.clean;  // noise - clean
    const at::Tensor noisy = batch.clean + batch.sigma * target;
    StepSource dit_source(dit, dtype), text_source(text, dtype);
    const skyreels::Transformer model(dit_source, config);
    const at::Tensor context = encode_texts(Umt5Encoder(text_source, text_sizes), batch.ids);
    const at::Tensor velocity = predict(model, noisy, batch.timesteps, context, batch.causal);
    const at::Tensor error = ((velocity - target).square() * batch.weight).sum();
    const at::Tensor loss = error / (batch.weight.sum().clamp_min(1) * (batch.clean.numel() / batch.weight.numel()));
    loss.backward();
    const double norm = parameters.step(clock.rate(options.rate));
    sum += loss.item<double>(), ++count;
    if (parameters.steps() % 20 == 0 && count > 0) {
      log_line(log, {{"step", static_cast<double>(parameters.steps())}, {"seconds", clock.seconds()}, {"loss", sum / count}, {"gradient", norm}});
      sum = count = 0;
    }
    if (parameters.steps() % 200 == 0) write();
  }
  write();
}

}  // namespace longtake::train
