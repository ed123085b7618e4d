#include "tools/train/vae_stage.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>

#include <future>

#include "base/error.h"
#include "models/demo/clips.h"
#include "models/wan_vae/wan_vae.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/safetensors.h"
#include "tools/train/clock.h"
#include "tools/train/moments.h"
#include "tools/train/parameters.h"
#include "tools/train/threads.h"

namespace longtake::train {
namespace {

// Pieces of clips around the subject, [B, 3, T, crop, crop], and their latents.
std::pair<at::Tensor, at::Tensor> draw_batch(const VaeOptions& options, const MomentEncoder& encoder, demo::Random& random) {
  const int latents = demo::kClipSize / 8, edge = options.crop / 8;
  struct Piece {
    demo::Clip clip;
    int first, x, y;  // frame; latents
  };
  std::vector<Piece> pieces;
  for (int i = 0; i < options.batch; ++i) {
    const demo::Clip clip(demo::random_training_scene(random), demo::Start::beginning, random.next());
    const int first = 4 * random.below(22);
    const auto [x, y] = clip.position(first + options.frames / 2);
    const auto place = [&](double centre) {
      const int wanted = static_cast<int>(centre / 8) - edge / 2 + random.below(5) - 2;
      return std::clamp(wanted, 0, latents - edge);
    };
    const int at_x = place(x), at_y = place(y);
    pieces.push_back({clip, first, at_x, at_y});
  }
  std::vector<at::Tensor> videos(pieces.size()), codes(pieces.size());
  on_threads(options.draw_threads, static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[i];
    const at::Tensor video = piece.clip.frames(piece.first, options.frames);
    codes[i] = encoder.encode(video.unsqueeze(0)).squeeze(0).narrow(2, piece.y, edge).narrow(3, piece.x, edge);
    videos[i] = video.narrow(2, 8 * piece.y, options.crop).narrow(3, 8 * piece.x, options.crop);
  });
  return {at::stack(videos), at::stack(codes)};
}

}  // namespace

void train_vae(const VaeOptions& options) {
  const auto state = options.folder / "vae.state.safetensors";
  const auto log = options.folder / "vae.jsonl";
  const VaeSizes sizes = demo_vae_sizes();
  const MomentEncoder encoder(options.seed);
  save_safetensors(options.folder / "moments.safetensors", encoder.state());

  InitSource init([](const std::string&) { return true; }, options.seed);
  for (const auto& [name, shape] : list_vae_weights(sizes)) init.take(name, shape);
  std::map<std::string, at::Tensor> all = init.parameters(), decoder;
  encoder.install(all);
  for (auto& [name, tensor] : all) {
    tensor = tensor.to(options.device);
    if (name.starts_with("decoder.") || name.starts_with("conv2.")) decoder[name] = tensor;
  }
  Parameters parameters(decoder, 0.998);
  if (std::filesystem::exists(state)) parameters.load(state);

  Clock clock(options.minutes, options.cpu_time);
  demo::Random random(options.seed + 1000 + static_cast<uint64_t>(parameters.steps()));
  double sum_l1 = 0, sum_l2 = 0;
  int count = 0;
  demo::Random noise(options.seed + 2000 + static_cast<uint64_t>(parameters.steps()));
  // The next batch is drawn while this one is learned from.
  const auto draw = [&] { return std::async(std::launch::async, [&] { return draw_batch(options, encoder, random); }); };
  auto next = draw();
  while (clock.share() < 1) {
    const auto [video, latents] = next.get();
    next = draw();
    const at::Tensor target = video.to(options.device);
    // The transformer's latents will never be exact: a little noise teaches the decoder to forgive that.
    const at::Tensor noisy = latents.to(options.device) + 0.1 * noise.uniform() * at::randn(latents.sizes(), target.options());
    StepSource source(all, at::kFloat);
    const at::Tensor difference = WanVae(source, sizes).decode_raw(noisy) - target;
    const at::Tensor l1 = difference.abs().mean(), l2 = difference.square().mean();
    (l1 + 2 * l2).backward();
    parameters.step(clock.rate(options.rate), 0.001);
    sum_l1 += l1.item<double>(), sum_l2 += l2.item<double>(), ++count;
    if (parameters.steps() % 20 == 0) {
      log_line(log, {{"step", static_cast<double>(parameters.steps())}, {"seconds", clock.seconds()},
                     {"l1", sum_l1 / count}, {"psnr", 10 * std::log10(4 * count / sum_l2)}});
      sum_l1 = sum_l2 = count = 0;
    }
    if (parameters.steps() % 200 == 0) parameters.save(state);
  }
  parameters.save(state);
  for (const auto& [name, tensor] : parameters.averaged()) all[name] = tensor;
  for (auto& [name, tensor] : all) tensor = tensor.detach().cpu();
  save_safetensors(options.folder / "vae.safetensors", all);
}

}  // namespace longtake::train
