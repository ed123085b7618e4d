#include "tools/train/magi_export.h"

#include <fstream>

#include "base/error.h"
#include "models/demo/clips.h"
#include "models/weights/checkpoint.h"
#include "models/weights/safetensors.h"
#include "runtime/plan_input.h"
#include "tools/train/magi_stage.h"
#include "tools/train/moments.h"
#include "tools/train/prompts.h"

namespace longtake::train {
namespace {

namespace fs = std::filesystem;

// Where the parts of the demo model are.
fs::path parts_of(const MagiExportOptions& o) { return o.shared.empty() ? o.demo : o.model / o.shared; }

std::string recipe_text(const MagiExportOptions& o, const Checkpoint& file) {
  const std::string parts = o.shared.empty() ? "" : o.shared + "/";
  int64_t layers = 0;
  while (file.contains(fmt::format("videodit_blocks.layers.{}.mlp.linear_fc1.weight", layers))) ++layers;
  const magi::ModelConfig c = demo_magi_config(file.info("x_embedder.weight").shape[0], layers);
  std::string out = fmt::format("description: Small MAGI-1 model{} trained by this project on clips of moving shapes; runs on any machine\n",
                                o.distilled ? " with built-in guidance" : "");
  out += fmt::format("folders: [{}]\n", o.model.filename().string());
  out += fmt::format("layouts:\n  shared:\n    transformer: transformer\n    vae: {0}vae\n    text_encoder: {0}text_encoder\n"
                     "    tokenizer: {0}tokenizer/spiece.model\n", parts);
  out += fmt::format("architecture:\n  family: magi-1\n  dim: {}\n  ffn: {}\n  heads: {}\n  kv_heads: {}\n  layers: {}\n", c.dim, c.ffn_dim, c.heads,
                     c.kv_heads, c.layers);
  out += fmt::format("  latent_channels: {}\n  text_dim: {}\n  text_len: {}\n  umt5: true\n  distilled: {}\n{}", c.in_channels, c.caption_dim,
                     c.caption_length, o.distilled, o.distilled ? "" : "  guided_until: 0.3\n");
  // That the VAE is Wan's follows from its stages.
  out += "  vae_stages: [8, 16, 32, 64]\n  vae_blocks: 1\n";
  for (const char* part : {"transformer", "text_encoder", "vae"}) {
    const std::string name = part == std::string("text_encoder") ? "text" : part;
    out += fmt::format("  {}_parameters: {:.0f}\n", name, part_sizes((name == "transformer" ? o.model : parts_of(o)) / part, at::kFloat).parameters);
  }
  out += fmt::format("defaults:\n  policy: none\n  video: {{size: {0}x{0}, frames: 93, fps: 16}}\n  sampling:\n    steps: {1}\n{2}    chunk: {3}\n"
                     "    in_flight: 4\n    key_chunks: \"5,4,3,2\"\n    clean_key_chunks: 1\n    special_tokens: none\n  run: {{dtype: fp32}}\n",
                     demo::kClipSize, o.steps, o.distilled ? "" : "    guidance: 4\n    prev_guidance: 1.5\n", kMagiChunkFrames);
  return out;
}

}  // namespace

void export_magi(const MagiExportOptions& o) {
  const Checkpoint file = Checkpoint::open(o.folder / (o.distilled ? "magi-distill.safetensors" : "magi.safetensors"));
  std::map<std::string, at::Tensor> tensors;
  for (const std::string& name : file.names()) tensors[name] = file.tensor(name).to(at::kBFloat16);
  fs::create_directories(o.model / "transformer");
  save_safetensors(o.model / "transformer" / "model.safetensors", tensors, {{"format", "pt"}});
  if (o.shared.empty())
    for (const char* part : {"vae", "text_encoder", "tokenizer"})
      fs::copy(o.demo / part, o.model / part, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  const fs::path recipe = o.recipe.empty() ? o.model / "recipe.yaml" : o.recipe;
  std::ofstream out(recipe);
  out << recipe_text(o, file);
  if (!out.flush()) fail_file("{} cannot be written", recipe.string());
}

}  // namespace longtake::train
