// The two kinds of WeightSource: a checkpoint on disk, and a fresh initialisation for training.
#pragma once

#include <functional>
#include <map>
#include <set>

#include "models/weights/checkpoint.h"
#include "models/weights/source.h"

namespace longtake {

// Tensors of a checkpoint, moved to a device and dtype one at a time. On the CPU in the stored dtype nothing is copied:
// the tensor is a read-only view of the file. Integer and bool tensors keep their dtype.
class CheckpointSource : public WeightSource {
 public:
  // The name that the checkpoint uses for an original name (names.h makes these).
  using Translator = std::function<std::string(const std::string&)>;

  // Without a translator the checkpoint has original names.
  CheckpointSource(Checkpoint checkpoint, Translator translate, at::Device device, at::ScalarType dtype);

  bool has(const std::string& name) const override;
  std::vector<int64_t> shape(const std::string& name) const override;
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) override;
  at::Tensor take_float32(const std::string& name, const std::vector<int64_t>& shape) override;

  const Checkpoint& checkpoint() const { return checkpoint_; }
  // Stored names that nobody took; repacked checkpoints carry such extras, so they are worth a log line, no error.
  std::vector<std::string> unused() const;

 private:
  // The stored name; Error (bad_file) where the checkpoint lacks it.
  std::string find(const std::string& name) const;
  at::Tensor take_as(at::ScalarType dtype, const std::string& name, const std::vector<int64_t>& shape);

  Checkpoint checkpoint_;
  Translator translate_;
  at::Device device_;
  at::ScalarType dtype_;
  std::set<std::string> taken_;
};

// Fresh float32 parameters for training. Each depends on the seed and its own name alone, not on the order of creation.
// Rules by name and shape (original names):
//   *.bias, head.head.weight, fps_projection.2.weight and the VAE attention's middle.1.proj.weight: 0, as the originals
//   do; so MAGI-1's final_linear.linear.weight and the gains that it stores less 1 (*layernorm.weight, *post_norm.weight)
//   MAGI-1's rope.bands: 10000^(-i/n); its null caption: normal with standard deviation 1
//   *.modulation: normal with standard deviation 1/sqrt(last size)
//   *.gamma and 1-D *.weight (norm gains): 1
//   token_embedding, fps_embedding and relative-position *.embedding.weight: normal with standard deviation 0.02
//   2-D *.weight: Xavier uniform;  3-D to 5-D *.weight (convolutions): Kaiming uniform over fan-in, gain 1
class InitSource : public WeightSource {
 public:
  InitSource(std::function<bool(const std::string&)> has, uint64_t seed, at::Device device = at::kCPU);

  bool has(const std::string& name) const override { return has_(name); }
  // Nothing is stored: Error (internal). A model that trains takes its sizes from its options.
  std::vector<int64_t> shape(const std::string& name) const override;
  // The same tensor again where the name was taken before.
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) override;

  // Everything taken so far; the tensors are those that the model holds.
  const std::map<std::string, at::Tensor>& parameters() const { return parameters_; }

 private:
  std::function<bool(const std::string&)> has_;
  uint64_t seed_;
  at::Device device_;
  std::map<std::string, at::Tensor> parameters_;
};

}  // namespace longtake
