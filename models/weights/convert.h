// Rewriting a checkpoint as one .safetensors file in another dtype or naming, tensor by tensor: memory holds one at a
// time.
#pragma once

#include <functional>
#include <optional>

#include "models/weights/checkpoint.h"
#include "models/weights/names.h"

namespace longtake {

enum class ModelKind { dit, vae, umt5, other };

// Which model the names belong to; `other` where it is none of those that can be renamed.
ModelKind detect_model(const Checkpoint& checkpoint);

struct ConvertOptions {
  std::optional<at::ScalarType>
      dtype;                     // kFloat, kBFloat16 or kHalf for every floating tensor; nullopt keeps each as it is
  std::optional<Layout> layout;  // nullopt keeps the names
  // Called after each tensor with the bytes written so far and in all.
  std::function<void(const std::string& name, uint64_t done, uint64_t total)> progress;
};

struct ConvertSummary {
  ModelKind kind;
  size_t tensors = 0;
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
};

// Tensors that no rule knows keep their names. The output appears under its name only when it is complete. Errors:
// usage (another dtype; renaming an unknown model), numerical (a value does not fit into float16), bad_file.
ConvertSummary convert_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& output,
                                  const ConvertOptions& options);

}  // namespace longtake
