#include "runtime/frame_decoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include "runtime/generate.h"
#include "runtime/stopwatch.h"

namespace longtake {

FrameDecoder::FrameDecoder(const GenerateSettings& settings, const WanVae& vae, OnFrames on_frames)
    : settings_(settings), vae_(vae), on_frames_(std::move(on_frames)) {}

void FrameDecoder::begin_window(const WindowSpan& window) {
  waiting_ = at::Tensor();
  skip_latents_ = skip_frames_ = 0;
  if (settings_.history == History::carry && window.index > 0) {
    // The stream stands behind the overlap already: latents of a cut prefix that were generated again are left out.
    skip_latents_ = settings_.plan.overlap_latents;
  } else {
    stream_ = std::make_unique<VaeDecodeStream>(vae_);
    if (window.index > 0) skip_frames_ = settings_.plan.request.overlap_frames;
    if (window.index == 0 && !settings_.show_given) skip_context();
  }
}

// The given frames come before the new ones, and are not decoded into them: a second window that reaches back into them finds them as
// they were given.
void FrameDecoder::skip_context() {
  skip_frames_ = settings_.plan.request.given_frames;
  if (settings_.given.defined()) keep_tail(settings_.given.to(vae_.device()));
}

void FrameDecoder::keep_tail(const at::Tensor& frames) {
  if (settings_.history != History::reencode || settings_.plan.windows.size() == 1) return;
  const at::Tensor all = tail_.defined() ? at::cat({tail_, frames}, 1) : frames;
  const int64_t n = std::min<int64_t>(settings_.plan.request.overlap_frames, all.size(1));
  tail_ = all.narrow(1, all.size(1) - n, n).clone();
}

void FrameDecoder::push(const at::Tensor& latents) {
  const int64_t skipped = std::min(skip_latents_, latents.size(1));
  skip_latents_ -= skipped;
  const at::Tensor fresh = latents.narrow(1, skipped, latents.size(1) - skipped);
  waiting_ = waiting_.defined() ? at::cat({waiting_, fresh}, 1) : fresh;
  const int64_t group = settings_.decode_latents;
  while (waiting_.size(1) >= group) {
    decode(waiting_.narrow(1, 0, group));
    waiting_ = waiting_.narrow(1, group, waiting_.size(1) - group);
  }
}

void FrameDecoder::flush() {
  if (waiting_.defined() && waiting_.size(1) > 0) decode(waiting_);
  waiting_ = at::Tensor();
  if (settings_.history == History::reencode) stream_.reset();  // the next window is a clip of its own: nothing held while it denoises
}

void FrameDecoder::decode(const at::Tensor& latents) {
  const Stopwatch watch(seconds_);
  at::Tensor frames = stream_->push(latents.unsqueeze(0)).squeeze(0).to(at::kFloat);
  const int64_t dropped = std::min(skip_frames_, frames.size(1));
  skip_frames_ -= dropped;
  frames = frames.narrow(1, dropped, frames.size(1) - dropped);
  if (frames.size(1) == 0) return;
  keep_tail(frames);
  on_frames_(frames);
}

}  // namespace longtake
