// YAML files of ours: bounded, strict, with line numbers in every message.
//
// A document is one mapping, or a list of them; values are scalars, and mappings one level down. Errors: bad_file for files
// that cannot be read or are no YAML, usage for what they say.
#pragma once

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "runtime/options.h"

namespace longtake {

inline constexpr size_t kMaxOptionsBytes = 256 << 10;

// The whole file, or an Error where it is larger than `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes = kMaxOptionsBytes);

// The one document in `text`: a mapping. `origin` names the source in messages. An empty
// document is an empty mapping.
YAML::Node parse_yaml(const std::string& text, const std::string& origin);

// The one document in `text`: a list of mappings, which may be empty.
YAML::Node parse_yaml_list(const std::string& text, const std::string& origin, size_t max_bytes);

struct YamlEntry {
  std::string key;
  YAML::Node value;
  std::string place;  // "origin line N" of the key

  // The value as text; errors for lists, mappings and nothing. `what` names the key in messages.
  std::string scalar(const std::string& what) const;
  [[noreturn]] void fail_expected(const std::string& what, const std::string& expected) const;
};

// In file order; errors for keys that are no scalars, and repeated keys. `node` is a mapping.
std::vector<YamlEntry> yaml_entries(const YAML::Node& node, const std::string& origin);

// The option keys and values in a mapping shaped like the schema, and those of the keys `besides`, whose values are scalars
// too. Unknown keys are errors with the nearest match.
std::vector<OptionAssignment> option_assignments(const YAML::Node& mapping, const std::string& origin,
                                                 std::span<const std::string> besides = {});

// Error text for a key that is neither in the schema nor one of `besides`.
std::string unknown_key(std::string_view key, std::span<const std::string> besides = {});

}  // namespace longtake
