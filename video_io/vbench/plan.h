// What an export for VBench shall hold: kept as meta/plan.yaml in its folder, beside copies of the prompt files, so that the
// folder alone tells how its videos are made.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/batch_folder.h"
#include "runtime/options.h"
#include "video_io/vbench/prompts.h"

namespace longtake {

enum class VbenchProtocol { standard, long_videos };  // VBench, VBench-Long
enum class VbenchLayout { by_suite, flat };           // videos/SUITE/*.mp4, videos/*.mp4

std::string name_of(VbenchProtocol protocol);  // "short", "long"
std::string name_of(VbenchLayout layout);      // "suite", "flat"

struct VbenchPlan {
  VbenchProtocol protocol = VbenchProtocol::standard;
  VbenchLayout layout = VbenchLayout::by_suite;
  std::vector<std::string> suites;
  int samples = 5, flicker_samples = 5;
  uint64_t seed = 0;               // a video's own is seed + 1000003 * line + index
  std::string prompt_list;         // "standard", or the name of the file of longer prompts
  OptionSet options;               // of every video
  Recipe recipe;                   // of the model; where it is one of SkyReels-V2 no more than that

  int samples_of(const std::string& suite) const;
  int frames() const;      // of a video
  double seconds() const;  // of a video
};

// Frames at a rate, against the protocol: up to 5 s VBench, from there VBench-Long.
VbenchProtocol protocol_for(double seconds);

// Everything across options: protocol and length agree, crf is at most 12, flat is for VBench only, generate would take the
// options. Errors: usage.
void check_vbench_plan(const VbenchPlan& plan);

std::string plan_yaml(const VbenchPlan& plan);
// Strict: unknown keys are errors with the nearest match and the line. A plan for a MAGI-1 model says so, and the model's recipe must be
// there; other plans need none.
VbenchPlan parse_vbench_plan(const std::string& yaml, const std::string& origin);

// The folder of an export; read by run, check and script.
struct VbenchExport {
  BatchFolder folder;
  VbenchPlan plan;
  std::vector<VbenchPrompt> prompts;  // with their long texts
};
bool is_vbench_export(const std::filesystem::path& root);
VbenchExport open_vbench_export(const std::filesystem::path& root);
// Writes meta/plan.yaml and copies of the prompt files; `list` is empty for the standard prompts. Where another plan is there:
// an Error (usage) unless `replace`.
void write_vbench_export(const std::filesystem::path& root, const VbenchPlan& plan, const std::string& info, const std::string& list, bool replace);

// "PROMPT-INDEX".
std::string vbench_name(const std::string& prompt, int index);

// One job a video. In a flat folder the two prompts that stand in two suites are made once.
std::vector<BatchJob> vbench_jobs(const VbenchExport& vbench);

}  // namespace longtake
