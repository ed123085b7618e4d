// How `longtake_train sample` gets a clip out of a model, whatever its family.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "tools/train/sample.h"

namespace longtake::train {

class Sampler {
 public:
  struct Clip {
    at::Tensor frames;   // float32 [3, n, H, W] on the CPU
    double seconds = 0;  // of denoising
  };

  virtual ~Sampler() = default;
  virtual int frames() const = 0;
  virtual Clip generate(const std::string& policy, const std::string& prompt, uint64_t seed) = 0;
  // Encoded and decoded again.
  virtual at::Tensor through_vae(const at::Tensor& video) = 0;
};

// Of the model in options.model.
std::unique_ptr<Sampler> open_sampler(const SampleOptions& options);

}  // namespace longtake::train
