// Tensor names: from the original checkpoints' to the Diffusers / Hugging Face ones and back (spec: SkyReels-V2, DiT
// names, VAE weight names, text encoder weight names).
//
// Models ask for original names; a translator turns them into the name that a checkpoint uses. Both namings hold the
// same tensors with the same shapes. Names are compared component by component ("cross_attn.k" never matches
// "cross_attn.k_img"); a name that no rule knows stays as it is.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "models/weights/checkpoint.h"

namespace longtake {

enum class Layout { original, diffusers };

// Pairs of module names, original first. "*" stands for one component (a block number) and is copied over.
class NameTable {
 public:
  struct Row {
    std::string original;
    std::string diffusers;
  };
  explicit NameTable(const std::vector<Row>& rows);

  std::string to_diffusers(const std::string& original) const;
  std::string to_original(const std::string& diffusers) const;
  std::string translate(const std::string& name, Layout to) const {
    return to == Layout::diffusers ? to_diffusers(name) : to_original(name);
  }

 private:
  using Pattern = std::vector<std::string>;
  std::vector<std::pair<Pattern, Pattern>> rows_;
};

// What the VAE decoder's flat module list of the original naming must be cut by.
struct VaeShape {
  int res_blocks = 2;  // residual blocks an encoder stage (the decoder's have one more): 2 in Wan 2.1
  int stages = 4;
};

const NameTable& dit_names();
const NameTable& umt5_names();
NameTable vae_names(VaeShape shape);

std::string to_diffusers_dit(const std::string& original);
std::string to_diffusers_umt5(const std::string& original);
std::string to_diffusers_vae(const std::string& original, VaeShape shape);

// Which naming a checkpoint uses. Error (bad_file) where it is no such model.
Layout detect_dit_layout(const Checkpoint& checkpoint);
Layout detect_umt5_layout(const Checkpoint& checkpoint);
Layout detect_vae_layout(const Checkpoint& checkpoint);
VaeShape detect_vae_shape(const Checkpoint& checkpoint);

// Original name -> name in this checkpoint, for CheckpointSource.
using NameTranslator = std::function<std::string(const std::string&)>;
NameTranslator dit_translator(const Checkpoint& checkpoint);
NameTranslator umt5_translator(const Checkpoint& checkpoint);
NameTranslator vae_translator(const Checkpoint& checkpoint);

}  // namespace longtake
