// The part of a check that looks into the videos.
#pragma once

#include "video_io/vbench/check_names.h"

namespace longtake {

// Scans every video, in several threads, and adds the faults of files, lengths, duplicates and records; fills the protocol.
void check_vbench_files(const VbenchCheckRequest& request, const std::vector<FoundVideo>& videos, VbenchCheckReport& report);

}  // namespace longtake
