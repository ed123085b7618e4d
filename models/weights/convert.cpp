#include "models/weights/convert.h"

#include <ATen/ops/all.h>
#include <ATen/ops/isfinite.h>

#include "base/error.h"
#include "models/weights/safetensors.h"

namespace longtake {
namespace {

constexpr const char* tied_embedding = "encoder.embed_tokens.weight";

// Stored name -> name in the output, without tensors that are stored under a second name too.
std::map<std::string, std::string> output_names(const Checkpoint& checkpoint, ModelKind kind,
                                                std::optional<Layout> layout) {
  std::map<std::string, std::string> names;
  for (const std::string& name : checkpoint.names()) names[name] = name;
  if (!layout) return names;

  Layout from = Layout::original;
  std::optional<NameTable> table;
  switch (kind) {
    case ModelKind::dit:
      from = detect_dit_layout(checkpoint);
      table = dit_names();
      break;
    case ModelKind::vae:
      from = detect_vae_layout(checkpoint);
      table = vae_names(detect_vae_shape(checkpoint));
      break;
    case ModelKind::umt5:
      from = detect_umt5_layout(checkpoint);
      table = umt5_names();
      break;
    case ModelKind::other:
      fail_usage(
          "{}: is no model whose tensors can be renamed (SkyReels-V2 or Wan 2.1 transformer, Wan 2.1 VAE, UMT5); "
          "leave the layout as it is",
          checkpoint.path().string());
  }
  if (from == *layout) return names;
  if (kind == ModelKind::umt5 && names.contains(tied_embedding)) {
    if (names.contains("shared.weight")) {
      names.erase(tied_embedding);
    } else {
      names[tied_embedding] = "shared.weight";
    }
  }
  std::map<std::string, std::string> taken;
  for (auto& [stored, name] : names) {
    name = table->translate(name, *layout);
    if (const auto [it, fresh] = taken.emplace(name, stored); !fresh) {
      fail_file("{}: '{}' and '{}' would both be named '{}'; is this one model?", checkpoint.path().string(),
                it->second, stored, name);
    }
  }
  return names;
}

at::Tensor cast(const at::Tensor& tensor, at::ScalarType dtype, const std::string& name) {
  const at::Tensor result = tensor.to(dtype);
  if (dtype == at::kHalf && tensor.scalar_type() != at::kHalf && !at::isfinite(result).all().item<bool>() &&
      at::isfinite(tensor).all().item<bool>()) {
    fail(ExitCode::numerical, "tensor '{}' holds values beyond float16's largest, 65504; choose bf16", name);
  }
  return result;
}

}  // namespace

ModelKind detect_model(const Checkpoint& checkpoint) {
  const auto has = [&](const char* name) { return checkpoint.contains(name); };
  if (has("head.head.weight") || (has("proj_out.weight") && has("scale_shift_table"))) return ModelKind::dit;
  if (has("decoder.conv1.weight") || has("decoder.conv_in.weight")) return ModelKind::vae;
  if (has("token_embedding.weight") || has("shared.weight") || has(tied_embedding)) return ModelKind::umt5;
  return ModelKind::other;
}

ConvertSummary convert_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& output,
                                  const ConvertOptions& options) {
  const auto& wanted = options.dtype;
  if (wanted && *wanted != at::kFloat && *wanted != at::kBFloat16 && *wanted != at::kHalf) {
    fail_usage("weights are stored as float32, bfloat16 or float16, not as {}", c10::toString(*wanted));
  }
  ConvertSummary summary{detect_model(checkpoint)};
  const auto names = output_names(checkpoint, summary.kind, options.layout);
  const auto dtype_of = [&](const TensorInfo& info) {
    return wanted && c10::isFloatingType(info.dtype) ? *wanted : info.dtype;
  };

  std::vector<SafetensorsWriter::Entry> entries;
  uint64_t total = 0;
  for (const auto& [stored, name] : names) {
    const TensorInfo& info = checkpoint.info(stored);
    entries.push_back({name, dtype_of(info), info.shape});
    total += info.bytes / c10::elementSize(info.dtype) * c10::elementSize(dtype_of(info));
    summary.bytes_read += info.bytes;
  }
  auto metadata = checkpoint.metadata();
  metadata.emplace("format", "pt");  // what Hugging Face's readers ask for
  SafetensorsWriter writer(output, std::move(entries), metadata);
  for (const auto& [stored, name] : names) {
    const TensorInfo& info = checkpoint.info(stored);
    const at::Tensor tensor = cast(checkpoint.tensor(stored), dtype_of(info), stored);
    writer.write(name, tensor);
    ++summary.tensors;
    summary.bytes_written += tensor.nbytes();
    if (options.progress) options.progress(name, summary.bytes_written, total);
  }
  writer.finish();
  return summary;
}

}  // namespace longtake
