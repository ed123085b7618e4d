// A picture from a file: PNG, JPEG, WebP, BMP, TIFF and whatever else libavcodec decodes as a still.
//
// Input is not trusted: what a file holds is told from its first bytes, never from its name; nothing but this one file is
// opened, and sizes are limited. Errors (bad_file, with the path): missing, no picture, no decoder, truncated, damaged,
// more than 64 megapixels or 256 MiB, less than 16 pixels on a side.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace longtake {

// uint8 RGB [H, W, 3], turned as the file asks for (phones' JPEGs); transparency is dropped.
at::Tensor read_still(const std::filesystem::path& path);

}  // namespace longtake
