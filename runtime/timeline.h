// Prompts over time: which text holds from when to when.
//
//   # a line each; times are seconds of what is generated, "s" may follow them
//   0-4: a red circle moves up over grass
//   4-7.5: a blue star moves down over sand
//   7.5-: the blue star stands still
//
// Ranges begin at 0 and follow one another without gap or overlap; the last one may be open. Empty lines and lines that begin with # do
// not count. Errors (usage) name the line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace longtake {

struct TimedPrompt {
  double begin = 0, end = 0;  // seconds; the end of an open range is infinite
  std::string text;
  int line = 0;  // from 1
};

// At least one; everything is checked but the video's end. `origin` names the list in messages.
std::vector<TimedPrompt> parse_timeline(std::string_view text, const std::string& origin);

// The same as lines; parse_timeline reads it back to equal prompts.
std::string timeline_text(const std::vector<TimedPrompt>& prompts);

// Checks the list against a video of `seconds`: nothing begins at its end or later, and the last range ends with it, to within
// `tolerance` seconds (lengths are rounded to what fits).
void check_timeline_end(const std::vector<TimedPrompt>& prompts, double seconds, double tolerance);

}  // namespace longtake
