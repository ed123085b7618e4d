// Writes a trained MAGI-1 demo model as a model folder with its recipe.
#pragma once

#include <filesystem>
#include <string>

namespace longtake::train {

struct MagiExportOptions {
  std::filesystem::path folder;  // what training left: magi[-distill].safetensors
  bool distilled = false;
  std::filesystem::path demo;    // the demo model's folder, whose VAE, text encoder and tokenizer the model shares
  std::filesystem::path model;   // transformer/ in bfloat16, and the shared parts, unless:
  std::string shared;            // the way from `model` to a folder that has them; empty: they are copied
  std::filesystem::path recipe;  // empty: recipe.yaml in `model`
  int steps = 32;
};

void export_magi(const MagiExportOptions& options);

}  // namespace longtake::train
