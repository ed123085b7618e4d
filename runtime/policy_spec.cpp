#include "runtime/policy_spec.h"

#include <algorithm>

#include "base/error.h"

namespace longtake {
namespace {

bool is_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

}  // namespace

PolicySpec parse_policy(std::string_view text, std::string_view what) {
  PolicySpec spec;
  const size_t colon = text.find(':');
  spec.name = text.substr(0, colon);
  if (!is_word(spec.name))
    fail_usage("{} '{}' must start with a name in lower case", what, text);
  if (colon == std::string_view::npos) return spec;

  std::string_view rest = text.substr(colon + 1);
  for (bool first = true;; first = false) {
    const size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) {
      if (!first || !is_word(item))
        fail_usage("{} '{}' has '{}' where KEY=VALUE{} is expected", what, text, item, first ? " or a preset" : "");
      spec.preset = item;
    } else {
      const std::string key(item.substr(0, equals)), value(item.substr(equals + 1));
      if (!is_word(key) || value.empty()) fail_usage("{} '{}' has '{}' where KEY=VALUE is expected", what, text, item);
      if (!spec.values.emplace(key, value).second) fail_usage("{} '{}' sets {} twice", what, text, key);
    }
    if (comma == std::string_view::npos) return spec;
    rest.remove_prefix(comma + 1);
  }
}

std::string to_text(const PolicySpec& spec) {
  std::string out = spec.name, separator = ":";
  auto add = [&](const std::string& item) {
    out += separator + item;
    separator = ",";
  };
  if (!spec.preset.empty()) add(spec.preset);
  for (const auto& [key, value] : spec.values) add(key + "=" + value);
  return out;
}

}  // namespace longtake
