// The text form of a cache policy: NAME[:PRESET][,KEY=VALUE]... or NAME:KEY=VALUE[,KEY=VALUE]...
//
// Examples: none · causal · motioncache:slow · motioncache:threshold=0.2,warmup=4 · motioncache:fast,floor=0.5. Only
// the form is checked here; which names, presets and keys exist is the policies' own business.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace longtake {

struct PolicySpec {
  std::string name;
  std::string preset;                         // "" where none is named
  std::map<std::string, std::string> values;  // KEY=VALUE pairs

  bool operator==(const PolicySpec&) const = default;
};

// Throws (usage) with what is wrong with the text, which `what` names.
PolicySpec parse_policy(std::string_view text, std::string_view what = "policy");

// The text that parses to `spec`, keys in alphabetical order.
std::string to_text(const PolicySpec& spec);

}  // namespace longtake
