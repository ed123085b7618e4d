// Input: VBench_full_info.json where the first byte is '[', a result file where it is '{', else a plan.yaml. Anything but a clean
// read or an Error is a bug.
#include <cstdlib>

#include "base/error.h"
#include "runtime/batch_names.h"
#include "video_io/vbench/plan.h"
#include "video_io/vbench/score.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    if (size > 0 && data[0] == '[') {
      for (const VbenchPrompt& prompt : parse_vbench_prompts(text, "fuzz.json"))
        if (!name_fault(vbench_name(prompt.text, 0)).empty()) std::abort();
    } else if (size > 0 && data[0] == '{') {
      scores_text(vbench_scores(parse_vbench_results(text, "fuzz.json")));
    } else {
      plan_yaml(parse_vbench_plan(text, "fuzz.yaml"));
    }
  } catch (const Error&) {
  }
  return 0;
}
