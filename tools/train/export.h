// Writes the trained weights as an ordinary model folder in the Diffusers layout.
#pragma once

#include <filesystem>

namespace longtake::train {

struct ExportOptions {
  std::filesystem::path folder;   // what training left: vae, dit, text (.safetensors, original names), spiece.model
  std::filesystem::path model;    // model_index.json, transformer/, vae/, text_encoder/, tokenizer/, scheduler/
  double flow_shift = 5;
};

// The transformer, the text encoder and the VAE's decoder in bfloat16 precision; the VAE's file is float32 where its encoder needs it.
void export_model(const ExportOptions& options);

}  // namespace longtake::train
