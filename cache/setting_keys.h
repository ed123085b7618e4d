// The keys of a policy or a K/V compression: KEY=VALUE in its text form. Each settings struct lists its own keys, bound to its
// fields; names, ranges, help and error messages follow from the list.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace longtake {

struct SettingKey {
  std::string name;
  std::string expects;                                // "a number between 0 and 1"
  std::string help;
  std::function<std::string()> text;                  // the field's value; set() reads it back
  std::function<bool(const std::string& value)> set;  // false where the text is not what is expected
};

SettingKey number_key(std::string name, double& field, double low, double high, std::string help);
SettingKey whole_key(std::string name, int& field, int low, int high, std::string help);
SettingKey toggle_key(std::string name, bool& field, std::string help);  // on, off
SettingKey share_key(std::string name, bool& on, double& share, std::string help);  // off, 0 ... 1

// One of a few words.
SettingKey word_key(std::string name, std::vector<std::string> words, std::string help, std::function<std::string()> text,
                    std::function<void(size_t index)> set);
template <class T>
SettingKey choice_key(std::string name, T& field, std::vector<std::pair<std::string, T>> choices, std::string help) {
  std::vector<std::string> words;
  for (const auto& [word, value] : choices) words.push_back(word);
  const auto text = [&field, choices] {
    for (const auto& [word, value] : choices)
      if (value == field) return word;
    return std::string();
  };
  return word_key(std::move(name), std::move(words), std::move(help), text, [&field, choices](size_t i) { field = choices[i].second; });
}

// Sets one key. Errors: usage for an unknown key (with the nearest and the list) or a value that is not what is expected; `owner` is
// the name of the policy.
void set_key(const std::string& owner, std::span<const SettingKey> keys, const std::string& name, const std::string& value);

}  // namespace longtake
