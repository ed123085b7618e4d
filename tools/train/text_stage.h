// Teaches word order to a text encoder that lacks it.
//
// A text encoder whose attention scores started too large attends to itself alone, and "from left to right" means the same to it as
// "from right to left". This stage trains a fresh one to give the same context for every word, except that "left to right" comes out as
// the words "right to right" did before, and the reverse: wordings that the transformer has learned to tell apart.
#pragma once

#include <filesystem>

namespace longtake::train {

struct TextOptions {
  std::filesystem::path folder;  // reads spiece.model and text.safetensors, which it replaces; text.jsonl
  double minutes = 3;
  int batch = 48;
  double rate = 2e-3;
  uint64_t seed = 1;
};

void train_text(const TextOptions& options);

}  // namespace longtake::train
