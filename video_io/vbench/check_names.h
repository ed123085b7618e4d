// The part of a check that needs only the names in a folder.
#pragma once

#include "video_io/vbench/check.h"

namespace longtake {

// A video whose name is right.
struct FoundVideo {
  std::filesystem::path path;
  std::string place;  // relative to the videos
  std::string suite;
};

// Fills layout, counts and the faults of names and folders; returns the videos with right names, in no order.
std::vector<FoundVideo> check_vbench_names(const VbenchCheckRequest& request, VbenchCheckReport& report);

}  // namespace longtake
