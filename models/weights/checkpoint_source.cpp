#include "models/weights/checkpoint_source.h"

#include "base/error.h"
#include "base/suggest.h"

namespace longtake {

CheckpointSource::CheckpointSource(Checkpoint checkpoint, Translator translate, at::Device device, at::ScalarType dtype)
    : checkpoint_(std::move(checkpoint)), translate_(std::move(translate)), device_(device), dtype_(dtype) {
  if (!translate_) translate_ = [](const std::string& name) { return name; };
}

bool CheckpointSource::has(const std::string& name) const { return checkpoint_.contains(translate_(name)); }

std::string CheckpointSource::find(const std::string& name) const {
  std::string stored = translate_(name);
  if (!checkpoint_.contains(stored)) {
    const std::vector<std::string> known = checkpoint_.names();
    fail_file("{}: lacks the tensor '{}'{}{}; is this the right model?", checkpoint_.path().string(), stored,
              stored == name ? "" : fmt::format(" (in the original naming '{}')", name), did_you_mean(stored, known));
  }
  return stored;
}

std::vector<int64_t> CheckpointSource::shape(const std::string& name) const {
  return checkpoint_.info(find(name)).shape;
}

at::Tensor CheckpointSource::take(const std::string& name, const std::vector<int64_t>& shape) {
  return take_as(dtype_, name, shape);
}

at::Tensor CheckpointSource::take_float32(const std::string& name, const std::vector<int64_t>& shape) {
  return take_as(at::kFloat, name, shape);
}

at::Tensor CheckpointSource::take_as(at::ScalarType dtype, const std::string& name, const std::vector<int64_t>& shape) {
  const std::string stored = find(name);
  const TensorInfo& info = checkpoint_.info(stored);
  if (info.shape != shape) {
    fail_file("{}: tensor '{}' has the shape {}, expected was {}; is this the right model?",
              checkpoint_.file(stored).string(), stored, shape_text(info.shape), shape_text(shape));
  }
  taken_.insert(stored);
  const at::Tensor tensor = checkpoint_.tensor(stored);
  return tensor.to(device_, c10::isFloatingType(info.dtype) ? dtype : info.dtype);
}

std::vector<std::string> CheckpointSource::unused() const {
  std::vector<std::string> unused;
  for (const std::string& name : checkpoint_.names()) {
    if (!taken_.contains(name)) unused.push_back(name);
  }
  return unused;
}

}  // namespace longtake
