// The report of a comparison as one HTML page: no script, nothing from outside except links to the videos beside it.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "video_io/comparison.h"

namespace longtake {

// Pictures of one clip (prompt and seed).
struct ClipPictures {
  int prompt = 0;
  uint64_t seed = 0;
  std::string side_by_side;    // the video, relative to the page; "" for none
  at::Tensor poster;           // uint8 [H, W, 3]: a frame of it; undefined for none
  std::vector<int64_t> times;  // frames shown in the strips
  struct Strip {
    int policy;
    at::Tensor picture;  // tiles.h, film_strip
  };
  std::vector<Strip> strips;
  std::string difference_from;  // baseline of the difference band; "" where there is none
};

std::string comparison_page(const Comparison& comparison, const std::vector<ClipPictures>& pictures);

// The style sheet, for the page and for tests.
const char* page_style();

}  // namespace longtake
