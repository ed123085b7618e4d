// Pictures as PNG through libavcodec's encoder: 8-bit RGB, lossless.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <vector>

namespace longtake {

// rgb: uint8 [H, W, 3], any device and strides, sides 1 ... 16384. Errors: internal for another shape, dtype or size; bad_file
// where the build of libavcodec has no PNG encoder.
std::vector<uint8_t> encode_png(const at::Tensor& rgb);

// The same into a file that appears whole or not at all (pending_file.h). Errors: also bad_file with the path.
void write_png(const std::filesystem::path& path, const at::Tensor& rgb);

}  // namespace longtake
