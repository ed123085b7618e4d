#include "models/wan_vae/stream.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>

#include "base/error.h"

namespace longtake {
namespace {

// Remembers batch, height and width of a stream's first push and refuses others.
void check_same(std::vector<int64_t>& shape, const at::Tensor& x) {
  const std::vector<int64_t> found = {x.size(0), x.size(3), x.size(4)};
  if (shape.empty()) shape = found;
  if (shape != found) {
    fail_usage(
        "every chunk of a clip has the first one's batch, height and width {}, this one has {}; start a new stream for "
        "another clip",
        fmt::join(shape, "x"), fmt::join(found, "x"));
  }
}

}  // namespace

VaeDecodeStream::VaeDecodeStream(const WanVae& vae) : vae_(vae), history_(vae.decoder_.new_history()) {}

at::Tensor VaeDecodeStream::push(const at::Tensor& latents) {
  vae_.check_latents(latents);
  check_same(shape_, latents);
  at::Tensor frames = vae_.run_decoder(latents, VaePass{latents_ == 0, &history_});
  latents_ += latents.size(2);
  return frames.clamp(-1, 1);
}

VaeEncodeStream::VaeEncodeStream(const WanVae& vae) : vae_(vae), history_(vae.encoder_.new_history()) {}

at::Tensor VaeEncodeStream::push(const at::Tensor& frames) {
  vae_.check_video(frames);
  check_same(shape_, frames);
  const VaeSizes& sizes = vae_.sizes();
  const int64_t group = sizes.temporal_factor(), factor = sizes.spatial_factor();
  const at::Tensor all = pending_.defined() ? at::cat({pending_, frames}, 2) : frames;

  const int64_t head = first_ ? 1 : 0;
  const int64_t ready = head + (all.size(2) - head) / group * group;
  at::Tensor latents;
  if (ready > 0) {
    const at::Tensor moments = vae_.run_encoder(all.narrow(2, 0, ready), VaePass{first_, &history_});
    latents = vae_.normalise(moments.narrow(1, 0, sizes.z_dim));
    first_ = false;
  } else {
    latents = at::empty({all.size(0), sizes.z_dim, 0, all.size(3) / factor, all.size(4) / factor},
                        at::TensorOptions().dtype(at::kFloat).device(vae_.device()));
  }
  const int64_t rest = all.size(2) - ready;
  // A copy, so that the caller's frames are free to go.
  pending_ = rest > 0 ? all.narrow(2, ready, rest).clone() : at::Tensor();
  return latents;
}

}  // namespace longtake
