#include "video_io/vbench/check.h"

#include <nlohmann/json.hpp>

#include <algorithm>

#include "base/error.h"
#include "video_io/vbench/check_files.h"
#include "video_io/vbench/check_names.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

// What to do about each kind of fault.
const std::map<std::string, std::string>& remedies() {
  static const std::map<std::string, std::string> texts = {
      {"layout", "put the videos into one folder, or into one folder a suite named as VBench names them"},
      {"missing suite", "make its videos, or name the suites that are meant with --suites or --dimensions"},
      {"unexpected suite", "name it with --suites, or move it away"},
      {"borrowed suite", "move the videos into the folder of the suite, or remove the folder"},
      {"other file", "move it out of the folder: only .mp4 files may lie there"},
      {"first entry", "remove everything but .mp4 files; where it is VBench-Long's own split_clip, evaluate a fresh copy of the folder on another file system"},
      {"evaluator's leftover", "delete it before the next evaluation, or evaluate a copy of the folder (longtake vbench script does)"},
      {"suffix", "convert to, or rename to, .mp4"},
      {"missing video", "make it: VBench only warns, and the score counts the others"},
      {"not NFC", "rename it"},
      {"letter case", "rename it"},
      {"spelling", "rename it"},
      {"extra sample", "remove it, or say how many samples are meant with --samples or --flicker-samples"},
      {"wrong suite", "move it to the folder of its suite"},
      {"long prompt", "rename it: videos are made from the longer prompt and called by the short one"},
      {"no number", "rename it to PROMPT-INDEX.mp4"},
      {"unknown prompt", "move it away, or correct its name"},
      {"case collision", "keep the videos on a file system that tells upper from lower case"},
      {"unreadable", "make it again"},
      {"decoder message", "make or encode it again: VBench's integrity check counts any message as corruption"},
      {"odd size", "encode it with even sides"},
      {"frame rate", "encode it with a constant, whole frame rate"},
      {"late start", "encode it so that the first frame is at 0"},
      {"large video", "see that the evaluator has the memory"},
      {"unlike the others", "make all videos of a run with the same settings"},
      {"protocol", "evaluate with the one that they belong to; longtake vbench script prints its commands"},
      {"not as planned", "make the videos again: longtake vbench run --remake"},
      {"no record", "make it again with longtake vbench run --remake"},
      {"changed", "make it again with longtake vbench run --remake"},
      {"other settings", "make it again with longtake vbench run --remake"},
      {"same video", "make one of them again with a seed of its own"},
      {"same seed", "make one of them again with a seed of its own"},
      {"path", "rename the folder: VBench's console command puts the path into a shell command"}};
  return texts;
}

}  // namespace

int VbenchCheckReport::errors() const {
  return static_cast<int>(std::count_if(faults.begin(), faults.end(), [](const VbenchFault& f) { return f.error; }));
}

VbenchCheckReport check_vbench_folder(const VbenchCheckRequest& request) {
  if (!fs::is_directory(request.videos)) fail_file("{} is not a folder; name the folder with the videos", request.videos.string());
  VbenchCheckReport report;
  if (request.videos.string().find_first_of("\"$`") != std::string::npos)
    report.faults.push_back({"path", request.videos.string(), "holds a character that means something to a shell (\", $ or `)", true});
  const std::vector<FoundVideo> videos = check_vbench_names(request, report);
  if (request.protocol) report.protocol = name_of(*request.protocol);
  if (request.open) check_vbench_files(request, videos, report);
  return report;
}

std::string check_text(const VbenchCheckReport& report) {
  constexpr size_t shown = 5;
  std::string out = fmt::format("{:<24}{:>10}{:>8}{:>9}\n", "suite", "expected", "found", "missing");
  for (const VbenchSuiteCount& suite : report.suites) out += fmt::format("{:<24}{:>10}{:>8}{:>9}\n", suite.suite, suite.expected, suite.found, suite.missing);
  out += fmt::format("{:<24}{:>10}{:>8}{:>9}\n", "all", report.expected, report.files, report.expected - report.files);
  out += fmt::format("layout {}, protocol {}\n", report.layout, report.protocol.empty() ? "unknown" : report.protocol);
  std::vector<std::string> kinds;
  for (const bool errors : {true, false})
    for (const VbenchFault& fault : report.faults)
      if (fault.error == errors && std::find(kinds.begin(), kinds.end(), fault.kind) == kinds.end()) kinds.push_back(fault.kind);
  for (const std::string& kind : kinds) {
    std::vector<const VbenchFault*> members;
    for (const VbenchFault& fault : report.faults)
      if (fault.kind == kind) members.push_back(&fault);
    out += fmt::format("\n{}: {} ({}): {}\n", members.front()->error ? "error" : "warning", kind, members.size(), remedies().at(kind));
    for (size_t i = 0; i < members.size() && i < shown; ++i) out += fmt::format("  {}: {}\n", members[i]->place, members[i]->text);
    if (members.size() > shown) out += fmt::format("  ... and {} more (--json lists all)\n", members.size() - shown);
  }
  const int errors = report.errors();
  out += fmt::format("\n{}: {} error{}, {} warning{}\n", errors == 0 ? "ready for VBench" : "not ready", errors, errors == 1 ? "" : "s",
                     report.faults.size() - static_cast<size_t>(errors), report.faults.size() - static_cast<size_t>(errors) == 1 ? "" : "s");
  return out;
}

nlohmann::ordered_json check_json(const VbenchCheckReport& report) {
  nlohmann::ordered_json out;
  out["ready"] = report.errors() == 0;
  out["layout"] = report.layout;
  out["protocol"] = report.protocol;
  out["expected"] = report.expected;
  out["found"] = report.files;
  out["suites"] = nlohmann::ordered_json::array();
  for (const VbenchSuiteCount& suite : report.suites)
    out["suites"].push_back({{"suite", suite.suite}, {"expected", suite.expected}, {"found", suite.found}, {"missing", suite.missing}});
  out["faults"] = nlohmann::ordered_json::array();
  for (const VbenchFault& fault : report.faults)
    out["faults"].push_back({{"kind", fault.kind}, {"place", fault.place}, {"text", fault.text}, {"error", fault.error}, {"remedy", remedies().at(fault.kind)}});
  return out;
}

}  // namespace longtake
