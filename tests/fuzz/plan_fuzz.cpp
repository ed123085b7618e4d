// Input: a plan. Anything but a clean read, a text that reads back as the same plan, a grid, or an Error is a bug.
#include "cache/plan.h"

#include "base/error.h"
#include "cache/plan_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  try {
    const Plan plan = parse_plan({reinterpret_cast<const char*>(data), size}, "fuzz.json");
    if (parse_plan(plan_text(plan), "again.json") != plan) __builtin_trap();
    if (plan.entries.size() <= 64) plan_grid(plan);
  } catch (const Error&) {
  }
  return 0;
}
