// The timestep embedding of SkyReels-V2 and Wan 2.1: what depends on the timestep (and frame rate) alone.
// Spec: skyreels_v2.md 2.2 and 2.4.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/weights/source.h"
#include "quant/linear.h"

namespace longtake::skyreels {

struct TransformerConfig;

struct TimeEmbedding {
  at::Tensor e;  // [n, dim] float32: the head's modulation
  at::Tensor E;  // [n, 6, dim] float32: the blocks' modulation
};

// Its own module, so that what a schedule decides (cache/step_distance.h) can be known without loading a whole model.
class TimeEmbedder {
 public:
  TimeEmbedder() = default;
  TimeEmbedder(WeightSource& source, const TransformerConfig& config);

  // timesteps [n] (0 ... 999); fps_index 0 for 16 fps, else 1 (ignored by models without fps embedding).
  TimeEmbedding operator()(const at::Tensor& timesteps, int fps_index) const;

  // E of one timestep, flattened, float32 on the host.
  at::Tensor step(double timestep, int fps_index) const;

  void to(const at::Device& device);

  int64_t weight_bytes() const;

 private:
  int64_t dim_ = 0, freq_dim_ = 0;
  Linear in_, out_, projection_, fps_in_, fps_out_;
  at::Tensor fps_table_;
};

}  // namespace longtake::skyreels
