// Loss curves of a training run as a picture.
#pragma once

#include <filesystem>

namespace longtake::train {

// Draws vae.jsonl (PSNR) and dit.jsonl (loss) of `folder` into an SVG file.
void plot_losses(const std::filesystem::path& folder, const std::filesystem::path& picture);

}  // namespace longtake::train
