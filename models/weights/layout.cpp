// Finding out from a checkpoint's tensor names which model and naming it is.
#include <charconv>
#include <climits>

#include "base/error.h"
#include "models/weights/names.h"

namespace longtake {
namespace {

Layout detect(const Checkpoint& checkpoint, std::string_view model, const std::string& original,
              std::initializer_list<std::string> diffusers) {
  if (checkpoint.contains(original)) return Layout::original;
  for (const std::string& name : diffusers) {
    if (checkpoint.contains(name)) return Layout::diffusers;
  }
  fail_file("{}: holds no {} (neither '{}' nor '{}' is in it); is this the right file?", checkpoint.path().string(),
            model, original, *diffusers.begin());
}

// The number after `prefix` in `name`, or -1.
int number_after(std::string_view name, std::string_view prefix) {
  int number = -1;
  if (!name.starts_with(prefix)) return -1;
  name.remove_prefix(prefix.size());
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' ? number : -1;
}

}  // namespace

Layout detect_dit_layout(const Checkpoint& checkpoint) {
  return detect(checkpoint, "SkyReels-V2 or Wan 2.1 transformer", "head.head.weight", {"proj_out.weight"});
}

Layout detect_umt5_layout(const Checkpoint& checkpoint) {
  return detect(checkpoint, "UMT5 text encoder", "token_embedding.weight",
                {"shared.weight", "encoder.embed_tokens.weight"});
}

Layout detect_vae_layout(const Checkpoint& checkpoint) {
  return detect(checkpoint, "Wan 2.1 VAE", "decoder.conv1.weight", {"decoder.conv_in.weight"});
}

VaeShape detect_vae_shape(const Checkpoint& checkpoint) {
  const bool original = detect_vae_layout(checkpoint) == Layout::original;
  int last = -1;  // of the original's flat list
  int resamplers = 0, first_resampler = INT_MAX;
  int last_stage = -1, last_in_stage = -1;  // Diffusers
  for (const std::string& name : checkpoint.names()) {
    if (original) {
      const int at = number_after(name, "decoder.upsamples.");
      last = std::max(last, at);
      if (at >= 0 && name.ends_with(".resample.1.weight")) {
        ++resamplers;
        first_resampler = std::min(first_resampler, at);
      }
    } else {
      last_stage = std::max(last_stage, number_after(name, "decoder.up_blocks."));
      last_in_stage = std::max(last_in_stage, number_after(name, "decoder.up_blocks.0.resnets."));
    }
  }
  VaeShape shape;
  if (original) {
    shape = {resamplers > 0 ? first_resampler - 1 : last, resamplers + 1};
    // Stages of equal length with a resampler between them.
    if (last + 1 != shape.stages * (shape.res_blocks + 1) + resamplers) shape.res_blocks = -1;
  } else {
    shape = {last_in_stage, last_stage + 1};
  }
  if (shape.res_blocks < 1 || shape.stages < 1) {
    fail_file("{}: the decoder's blocks form no stages of equal length; is this a Wan 2.1 VAE?",
              checkpoint.path().string());
  }
  return shape;
}

NameTranslator dit_translator(const Checkpoint& checkpoint) {
  if (detect_dit_layout(checkpoint) == Layout::original) return [](const std::string& name) { return name; };
  return to_diffusers_dit;
}

NameTranslator umt5_translator(const Checkpoint& checkpoint) {
  if (detect_umt5_layout(checkpoint) == Layout::original) return [](const std::string& name) { return name; };
  // Transformers ties the two names of the embedding and may store either.
  const std::string embedding = checkpoint.contains("shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight";
  return [embedding](const std::string& name) {
    return name == "token_embedding.weight" ? embedding : to_diffusers_umt5(name);
  };
}

NameTranslator vae_translator(const Checkpoint& checkpoint) {
  if (detect_vae_layout(checkpoint) == Layout::original) return [](const std::string& name) { return name; };
  return
      [table = vae_names(detect_vae_shape(checkpoint))](const std::string& name) { return table.to_diffusers(name); };
}

}  // namespace longtake
