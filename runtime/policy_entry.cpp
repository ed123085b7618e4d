#include "runtime/policy_entry.h"

#include <array>

#include "base/error.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "runtime/families.h"
#include "runtime/options_yaml.h"
#include "runtime/policy_spec.h"

namespace longtake {
namespace {

// What all entries share: these make the noise, the size of the pictures, or the conditions of the measurement.
bool shared_by_all(const OptionInfo& info) {
  static constexpr std::array kTop{"model", "prompt", "out", "seed", "policy", "parity"};
  return info.section() == "video" || info.section() == "run" ||
         std::find(kTop.begin(), kTop.end(), info.key) != kTop.end();
}

const OptionInfo& option_named(std::string_view key, std::string_view entry) {
  if (const OptionInfo* info = find_option(key)) return *info;
  const OptionInfo* found = nullptr;
  std::vector<std::string> names;
  for (const OptionInfo& info : option_schema()) {
    if (!shared_by_all(info)) names.push_back(info.name());
    if (info.name() != key) continue;
    if (found)
      fail_usage("policy entry '{}': '{}' may mean {} or {}; write it in full", printable(entry), printable(key),
                 found->key, info.key);
    found = &info;
  }
  if (!found)
    fail_usage("policy entry '{}': there is no option '{}'{}", printable(entry), printable(key),
               did_you_mean(key, names));
  return *found;
}

// The places where one entry ends and the next begins.
std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> pieces{""};
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ';') {
      pieces.emplace_back();
    } else if (text[i] == ',') {
      const std::string_view next = text.substr(i + 1, text.find_first_of(",;", i + 1) - i - 1);
      const size_t mark = next.find_first_of("=:@ ");
      if (mark != std::string_view::npos && next[mark] == '=')
        pieces.back() += ',';
      else
        pieces.emplace_back();
    } else {
      pieces.back() += text[i];
    }
  }
  return pieces;
}

}  // namespace

PolicyEntry parse_policy_entry(std::string_view text) {
  constexpr std::string_view kBreaks = "@ \t\r\n";
  PolicyEntry entry;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_of(kBreaks, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    at = end + 1;
    if (word.empty()) continue;
    if (entry.policy.empty()) {
      entry.policy = entry.label = to_text(parse_policy(word));
      continue;
    }
    const size_t equals = word.find('=');
    if (equals == 0 || equals == std::string_view::npos)
      fail_usage("policy entry '{}' has '{}' where an option KEY=VALUE is expected, such as causal@history=carry",
                 printable(text), printable(word));
    const OptionInfo& info = option_named(word.substr(0, equals), text);
    if (shared_by_all(info))
      fail_usage("policy entry '{}': {} is the same for all policies of a comparison; give it once, outside the list",
                 printable(text), info.key);
    for (const OptionAssignment& other : entry.options)
      if (other.key == info.key) fail_usage("policy entry '{}' sets {} twice", printable(text), info.key);
    entry.options.push_back(
        {info.key, std::string(word.substr(equals + 1)), fmt::format("policy entry '{}'", printable(text))});
    entry.label += fmt::format("@{}={}", info.name(), word.substr(equals + 1));
  }
  if (entry.policy.empty())
    fail_usage("the list of policies has an empty entry; give for example causal,motioncache:slow");
  return entry;
}

std::vector<PolicyEntry> parse_policy_list(std::span<const std::string> texts) {
  std::vector<PolicyEntry> entries;
  for (const std::string& text : texts)
    for (const std::string& piece : split_list(text)) {
      PolicyEntry entry = parse_policy_entry(piece);
      for (const PolicyEntry& other : entries)
        if (other.label == entry.label) fail_usage("the list of policies names '{}' twice", entry.label);
      entries.push_back(std::move(entry));
    }
  return entries;
}

OptionSet with_entry(const OptionSet& shared, const PolicyEntry& entry, const Recipe& recipe) {
  OptionSet options = shared;
  options.set({"policy", entry.policy, "--policies"}, SourceLevel::flag);
  for (const OptionAssignment& option : entry.options) options.set(option, SourceLevel::flag);
  check_options(options, recipe);
  validate(options.values(), recipe);
  return options;
}

}  // namespace longtake
