// Where a model's weights come from: a checkpoint on disk, or (while training) a fresh initialisation.
//
// Models take their tensors by their *original* checkpoint name (SkyReels-V2 / Wan 2.1 / UMT5 .pth names) and say the shape
// they expect; the module tree is the name tree. Sources translate names for other layouts (Diffusers), move tensors to
// the wanted device and dtype, and are strict: a missing or misshapen tensor is an Error (bad_file) that names it.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace longtake {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // Whether the tensor exists; used for optional parts (fps embedding, residual shortcuts).
  virtual bool has(const std::string& name) const = 0;

  // The stored shape; how models read their sizes from the tensors.
  virtual std::vector<int64_t> shape(const std::string& name) const = 0;

  // The tensor on the source's device in the source's dtype, after checking its shape.
  virtual at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) = 0;

  // The same in float32 whatever the source's dtype, from the stored values.
  virtual at::Tensor take_float32(const std::string& name, const std::vector<int64_t>& shape) {
    return take(name, shape).to(at::kFloat);
  }
};

}  // namespace longtake
