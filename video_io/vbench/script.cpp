#include "video_io/vbench/script.h"

#include <algorithm>

#include "base/error.h"
#include "video_io/vbench/protocol.h"

namespace longtake {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string folder_of(const VbenchScriptRequest& r, std::string_view suite) {
  return r.layout == VbenchLayout::flat ? "\"$VIDEOS\"" : fmt::format("\"$VIDEOS\"/{}", suite);
}

// VBench's own tool, one dimension a call.
std::string standard_commands(const VbenchScriptRequest& r, const std::vector<const VbenchDimension*>& dimensions) {
  std::string out = "# Needs VBench's console command: pip install vbench, in an environment of its own.\n\n";
  for (const VbenchDimension* dimension : dimensions) {
    std::string folder = folder_of(r, dimension->suite);
    if (dimension->name == kFlickering) {
      out += "# Only static videos are scored for flickering; fewer than 5 of a prompt give a warning, which more samples avoid.\n";
      out += "rm -rf \"$RESULTS\"/static_filter\n";
      out += fmt::format("vbench static_filter --videos_path {} --result_path \"$RESULTS\"/static_filter --filter_scope temporal_flickering\n", folder);
      folder = "\"$RESULTS\"/static_filter/filtered_videos";
    }
    out += fmt::format("vbench evaluate --videos_path {} --dimension {} --output_path \"$RESULTS\"\n", folder, dimension->name);
  }
  return out;
}

std::string long_commands(const VbenchScriptRequest& r, const std::vector<const VbenchDimension*>& dimensions) {
  std::string out =
      "# Needs a checkout of VBench with VBench-Long's requirements: VBENCH=/path/to/VBench sh this-script\n"
      ": \"${VBENCH:?set VBENCH to the folder of a VBench checkout}\"\n\n"
      "# VBench-Long writes clips into the folder that it evaluates and takes what it finds there for its own, so every dimension gets\n"
      "# a fresh copy (hard links where the file system has them).\n"
      "evaluate() {  # DIMENSION SUITE OPTIONS...\n"
      "  dimension=$1 suite=$2\n"
      "  shift 2\n"
      "  copy=$RESULTS/copies/$dimension\n"
      "  rm -rf \"$copy\"\n"
      "  mkdir -p \"$RESULTS/copies\"\n"
      "  cp -rl \"$VIDEOS/$suite\" \"$copy\" 2>/dev/null || { rm -rf \"$copy\"; cp -r \"$VIDEOS/$suite\" \"$copy\"; }\n"
      "  (cd \"$VBENCH\" && python vbench2_beta_long/eval_long.py --videos_path \"$copy\" --dimension \"$dimension\" \\\n"
      "    --mode long_vbench_standard --dev_flag --output_path \"$RESULTS/$dimension\" \"$@\")\n"
      "  # It takes the suffix of the first entry for that of all videos.\n"
      "  case $(ls -U \"$copy\" | head -n 1) in\n"
      "    *.mp4) rm -rf \"$copy\" ;;\n"
      "    *) echo \"$dimension: the file system lists VBench-Long's own folder first, so the score is void; put RESULTS on another one\" >&2\n"
      "       rm -rf \"$RESULTS/$dimension\"\n"
      "       exit 1 ;;\n"
      "  esac\n"
      "}\n\n";
  for (const VbenchDimension* dimension : dimensions) {
    std::string options;
    if (dimension->name == kFlickering) options = " --static_filter_flag";
    const int samples = dimension->name == kFlickering ? r.flicker_samples : r.samples;
    if (samples != kStandardSamples) options += fmt::format(" --num_of_samples_per_prompt {}", samples);
    out += fmt::format("evaluate {} {}{}\n", dimension->name, dimension->suite, options);
  }
  return out;
}

}  // namespace

std::string vbench_script(const VbenchScriptRequest& r) {
  for (const auto& path : {r.videos, r.results})
    if (path.string().find_first_of("\"$`\n") != std::string::npos)
      fail_usage("{}: VBench's console command puts the path into a shell command, so it must hold no \", $, ` or line break; rename the folder",
                 path.string());
  std::vector<const VbenchDimension*> dimensions;
  for (const VbenchDimension& dimension : vbench_dimensions())
    if (std::find(r.suites.begin(), r.suites.end(), dimension.suite) != r.suites.end()) dimensions.push_back(&dimension);
  std::string out = "#!/bin/sh\n";
  out += fmt::format("# {}, {} of 16 dimensions, {} samples a prompt{}.\n", r.protocol == VbenchProtocol::standard ? "VBench" : "VBench-Long",
                     dimensions.size(), r.samples,
                     std::find(r.suites.begin(), r.suites.end(), kFlickering) != r.suites.end() && r.flicker_samples != r.samples
                         ? fmt::format(" ({} for temporal_flickering)", r.flicker_samples)
                         : "");
  out += r.prompt_list == "standard" ? "# Videos were made from the standard prompts.\n"
                                     : fmt::format("# Videos were made from longer prompts ({}): say so beside the scores; leaderboards call it \"prompt optimized\".\n", r.prompt_list);
  if (r.samples < kStandardSamples)
    out += fmt::format("# The protocol wants {} samples a prompt: VBench warns of the missing ones, and the scores cannot be compared.\n", kStandardSamples);
  if (dimensions.size() < vbench_dimensions().size())
    out += "# Scores of the missing dimensions are needed for Quality, Semantic and Total.\n";
  out += fmt::format("set -eu\nVIDEOS={}\nRESULTS=${{RESULTS:-{}}}\nmkdir -p \"$RESULTS\"\n\n", quoted(r.videos.string()), quoted(r.results.string()));
  out += r.protocol == VbenchProtocol::standard ? standard_commands(r, dimensions) : long_commands(r, dimensions);
  out += "\nlongtake vbench score \"$RESULTS\"\n";
  return out;
}

}  // namespace longtake
