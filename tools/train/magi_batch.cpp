#include "tools/train/magi_batch.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <numeric>

#include "tools/train/dit_stage.h"

namespace longtake::train {
namespace {

constexpr float kCleanTime = 0.9999f;
constexpr double kOpeningWeight = 3;    // a clip's first latent frame is of another kind than the others, and rare
constexpr double kGivenShare = 0.2;     // of windows that may have given frames among those in flight
constexpr double kHistoryNoise = 0.05;  // of generated chunks, which are never exact
constexpr double kOwnFlagShare = 0.25;  // of base windows, as in the step in which a finished chunk runs once more
constexpr int kStepCounts[] = {8, 16, 32, 64};

// One window while it is put together: values by chunk or frame.
struct Window {
  std::vector<float> times, step_sizes;
  std::vector<int64_t> null_text, text;
  std::vector<float> clean_share, weight;  // by frame: x = share * clean + (1 - share) * noise
};

Window draw_window(const MagiBatchOptions& o, const MagiStructure& s, int64_t index, int given, demo::Random& random) {
  Window w;
  const bool drop = !o.distilled && (s.alone || random.uniform() < o.drop_text);
  const int64_t flag = drop, own_text = drop ? 0 : index + 1;
  // Base models read the keys of finished chunks from the branch without a text.
  const int64_t history_flag = o.distilled ? 0 : drop || random.uniform() >= kOwnFlagShare || !s.clean_history;
  const float step_size = static_cast<float>(kStepCounts[random.below(4)]) / 2;
  const std::vector<double> shares = draw_shares(s, random);
  const float noisy = random.uniform() < 0.5 ? 0.0f : static_cast<float>(random.uniform(0, kHistoryNoise));
  for (int c = 0; c < s.chunks(); ++c) {
    const bool history = c < s.history;
    float time = kCleanTime, share = 1 - noisy;
    if (history && !s.clean_history) time = share = static_cast<float>(magi_time(random.uniform(0.9, 0.99)));
    if (!history) time = share = static_cast<float>(magi_time(shares[c - s.history]));
    w.times.push_back(time), w.step_sizes.push_back(step_size);
    w.null_text.push_back(history ? history_flag : flag);
    w.text.push_back(history && (s.clean_history || !o.distilled) ? 0 : own_text);
    for (int f = 0; f < o.chunk_frames; ++f) {
      const bool known = c == s.history && f < given;
      w.clean_share.push_back(known ? 1 : share);
      w.weight.push_back(history || known ? 0.0f : c == 0 && f == 0 && s.from_start ? kOpeningWeight : 1.0f);
    }
  }
  return w;
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

MagiBatch draw_magi_batch(const MagiBatchOptions& o, int chunks, const LatentPool& pool, demo::Random& random) {
  MagiBatch batch;
  const MagiStructure& s = batch.structure = draw_structure(chunks, o.distilled, random);
  const int64_t count = std::max(1, o.batch_chunks / chunks), frames = static_cast<int64_t>(chunks) * o.chunk_frames;
  Window all;
  std::vector<at::Tensor> latents;
  for (int64_t i = 0; i < count; ++i) {
    // A picture is one latent frame; the end of a video may be any number.
    const bool some = s.partly_given && random.uniform() < kGivenShare;
    const int given = !some ? 0 : s.history == 0 && random.uniform() < 0.5 ? 1 : 1 + random.below(o.chunk_frames - 1);
    // What begins by itself begins where its motion starts; what is given may be anywhere.
    const bool anywhere = (s.history > 0 || s.alone || given > 0) && random.uniform() < 0.5;
    const LatentPool::Part& part = pool.parts.at(anywhere ? demo::Start::anywhere : demo::Start::beginning);
    const int clip = random.below(static_cast<int>(part.scenes.size()));
    const int offsets = static_cast<int>(part.latents.size(2) / o.chunk_frames) - chunks + 1;
    // The chunk that opens a video is alone anyway: it learns to do without a text where its caption is dropped.
    const int offset = s.from_start ? 0 : s.alone ? 1 + random.below(offsets - 1) : random.below(offsets);
    latents.push_back(part.latents[clip].narrow(1, static_cast<int64_t>(offset) * o.chunk_frames, frames));
    batch.captions.push_back(training_prompt(part.scenes[clip], random));
    const Window w = draw_window(o, s, i, given, random);
    append(all.times, w.times), append(all.step_sizes, w.step_sizes), append(all.null_text, w.null_text), append(all.text, w.text);
    append(all.clean_share, w.clean_share), append(all.weight, w.weight);
  }
  const auto by_chunk = [&](const auto& values) { return at::tensor(values).view({count, chunks}).to(o.device); };
  const auto by_frame = [&](const auto& values) { return at::tensor(values).view({count, 1, frames, 1, 1}).to(o.device); };
  const at::Tensor clean = at::stack(latents).to(at::kFloat), noise = at::randn(clean.sizes(), clean.options());
  batch.velocity = clean - noise;
  batch.weight = by_frame(all.weight);
  batch.windows.latents = noise + by_frame(all.clean_share) * batch.velocity;
  batch.windows.times = by_chunk(all.times), batch.windows.null_text = by_chunk(all.null_text), batch.windows.text = by_chunk(all.text);
  if (o.distilled) batch.windows.step_sizes = by_chunk(all.step_sizes);
  batch.windows.first_keys = s.first_keys;
  return batch;
}

MagiBranches guidance_windows(const MagiBatch& batch) {
  MagiWindows w = batch.windows;
  w.step_sizes = at::Tensor();
  w.null_text = at::ones_like(w.null_text);
  w.text = at::zeros_like(w.text);
  MagiBranches out{w, w, w};
  const int64_t history = batch.structure.history, flying = w.text.size(1) - history;
  out.text.text = w.text.clone(), out.text.null_text = w.null_text.clone();
  out.text.text.narrow(1, history, flying).copy_(batch.windows.text.narrow(1, history, flying));
  out.text.null_text.narrow(1, history, flying).fill_(0);
  std::iota(out.alone.first_keys.begin(), out.alone.first_keys.end(), 0);
  return out;
}

}  // namespace longtake::train
