// One entry of a list of policies that are compared: a policy's text, with generation options of its own behind it.
//
//   POLICY[@KEY=VALUE]...     causal     motioncache:slow     causal@history=carry motioncache:threshold=0.2@steps=30
//
// `@` or white space separates the options. KEY is a key of the options schema, or the last part of one
// ("history" for sampling.history). Options that must be the same for all entries are refused: model, prompt, seed,
// parity, output, everything about the video and where it is computed.
//
// Entries are separated by commas or semicolons. A comma followed by KEY=VALUE goes on with the entry before it, so
// "causal,motioncache:threshold=0.2,warmup=4" are two.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/options.h"
#include "runtime/recipe.h"

namespace longtake {

struct PolicyEntry {
  std::string label;                      // the canonical text: policy, then @name=value in the order given
  std::string policy;                     // canonical (to_text)
  std::vector<OptionAssignment> options;  // full keys

  bool plain(std::string_view name) const { return label == name; }  // this policy and nothing else
};

// Errors: usage, with the nearest key where one is unknown.
PolicyEntry parse_policy_entry(std::string_view text);

// All entries of all texts, in order. Errors: usage for an entry that appears twice.
std::vector<PolicyEntry> parse_policy_list(std::span<const std::string> texts);

// The options with the entry's own put over them, checked for a model of this recipe.
OptionSet with_entry(const OptionSet& shared, const PolicyEntry& entry, const Recipe& recipe);

}  // namespace longtake
