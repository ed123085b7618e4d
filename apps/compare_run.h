// The runs of a comparison: clip after clip (prompt and seed), all policies of a clip from the same noise, one model
// for all.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/run_inputs.h"
#include "apps/run_progress.h"
#include "runtime/video_model.h"
#include "video_io/comparison.h"
#include "video_io/comparison_page.h"
#include "video_io/lpips.h"

namespace longtake {

enum class SideBySide { all, first, none };

struct ComparePlan {
  Recipe recipe;                   // of the model
  std::filesystem::path folder;    // exists, with a folder videos in it
  std::vector<OptionSet> options;  // by policy; prompt and seed are filled in for each run
  SideBySide side_by_side = SideBySide::first;
  bool warmup = true;
  const RunInputs* inputs = nullptr;  // of all runs
};

// Runs everything and writes videos as they come, and report.html, results.json and results.csv (each appears whole or
// not at all) at the end and now and then before it. A run that fails is recorded and the others go on; an interrupt is
// not caught. `comparison` comes with everything but runs, warm-up and repeatability filled in. At most one clip's
// frames of all policies are in memory.
void run_comparison(VideoModel& model, const ComparePlan& plan, const std::optional<Lpips>& lpips, Comparison& comparison,
                    Progress& progress, JsonLog& log);

}  // namespace longtake
