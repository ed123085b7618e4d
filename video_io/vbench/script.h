// The commands that evaluate a folder with VBench or VBench-Long, as a shell script.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "video_io/vbench/plan.h"

namespace longtake {

struct VbenchScriptRequest {
  std::filesystem::path videos;   // absolute
  VbenchProtocol protocol = VbenchProtocol::standard;
  VbenchLayout layout = VbenchLayout::by_suite;
  std::vector<std::string> suites;
  int flicker_samples = 5;
  int samples = 5;
  std::string prompt_list = "standard";
  std::filesystem::path results;  // absolute
};

// POSIX shell. Paths are quoted; those that VBench's console command cannot take are usage errors.
std::string vbench_script(const VbenchScriptRequest& request);

}  // namespace longtake
