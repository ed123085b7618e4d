// Whether VBench would take a folder of videos as it is meant, whoever wrote it: names to the byte, nothing else in the
// folders, videos that can be decoded, and the traps in VBench's own code.
//
// Source: Vchitect/VBench at 45e79ec: vbench/__init__.py and vbench2_beta_long/__init__.py (how names are matched and suffixes
// are taken), vbench2_beta_long/utils.py (splitting), integrity_check/.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "video_io/vbench/plan.h"

namespace longtake {

struct VbenchCheckRequest {
  std::filesystem::path videos;      // the folder of all videos, or of the suites' folders
  std::vector<VbenchPrompt> prompts;
  std::vector<std::string> suites;   // that are expected
  int samples = 5, flicker_samples = 5;
  std::optional<VbenchProtocol> protocol;  // by the videos' length where not given
  std::optional<VbenchExport> made;        // where this program made the folder: records are checked too
  bool open = true;                        // look into the files
  bool decode = true;                      // to the last frame
  int threads = 0;                         // 0: as many as there are cores
};

struct VbenchFault {
  std::string kind;    // one word or two, the same for every fault that is mended the same way
  std::string place;   // file or folder, relative to the videos
  std::string text;    // what is wrong
  bool error = true;   // else a warning
};

struct VbenchSuiteCount {
  std::string suite;
  int expected = 0, found = 0, missing = 0;
};

struct VbenchCheckReport {
  std::string layout;                   // "suite", "flat", "none"
  std::string protocol;                 // "short", "long", "" where no video could be read
  std::vector<VbenchSuiteCount> suites;
  int files = 0;                        // videos with a right name
  int expected = 0;
  std::vector<VbenchFault> faults;

  int errors() const;
};

VbenchCheckReport check_vbench_folder(const VbenchCheckRequest& request);

// A table by suite, and the faults by kind with what to do about each.
std::string check_text(const VbenchCheckReport& report);
nlohmann::ordered_json check_json(const VbenchCheckReport& report);

}  // namespace longtake
