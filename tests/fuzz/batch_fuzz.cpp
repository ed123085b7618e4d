// Input: a prompt list, a YAML list of jobs where the first byte is '-', or the record of a finished video where it is '{'. Anything but
// jobs, a record or an Error is a bug.
#include "runtime/batch_file.h"

#include <cstdlib>

#include "base/error.h"
#include "runtime/batch_folder.h"
#include "runtime/batch_names.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const Recipe empty;
  const RecipeFinder none = [&](const std::string&) -> const Recipe& { return empty; };
  try {
    if (size > 0 && data[0] == '{') {
      const VideoRecord record = read_record(fuzz::memory_file({data, size}));
      settings_difference(record.settings, video_settings(OptionSet(), Recipe()));
      return 0;
    }
    const bool yaml = size > 0 && data[0] == '-';
    for (const BatchJob& job : yaml ? parse_job_list(text, "fuzz.yaml", {}, none) : parse_prompt_list(text, "fuzz.txt", {}, none))
      if (!name_fault(job.name).empty()) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
