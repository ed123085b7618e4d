#include "cache/setting_keys.h"

#include <fmt/ranges.h>

#include <charconv>

#include "base/error.h"
#include "base/suggest.h"

namespace longtake {
namespace {

template <class T>
bool read(const std::string& text, T low, T high, T& field) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= low && value <= high)) return false;
  field = value;
  return true;
}

}  // namespace

SettingKey number_key(std::string name, double& field, double low, double high, std::string help) {
  return {std::move(name), fmt::format("a number between {} and {}", low, high), std::move(help),
          [&field] { return fmt::format("{}", field); },
          [&field, low, high](const std::string& text) { return read(text, low, high, field); }};
}

SettingKey whole_key(std::string name, int& field, int low, int high, std::string help) {
  return {std::move(name), fmt::format("a whole number between {} and {}", low, high), std::move(help),
          [&field] { return fmt::format("{}", field); },
          [&field, low, high](const std::string& text) { return read(text, low, high, field); }};
}

SettingKey toggle_key(std::string name, bool& field, std::string help) {
  return {std::move(name), "on or off", std::move(help), [&field] { return std::string(field ? "on" : "off"); },
          [&field](const std::string& text) {
            const bool on = text == "on" || text == "true" || text == "1", off = text == "off" || text == "false" || text == "0";
            if (on || off) field = on;
            return on || off;
          }};
}

SettingKey share_key(std::string name, bool& on, double& share, std::string help) {
  return {std::move(name), "off or a number between 0 and 1", std::move(help),
          [&on, &share] { return on ? fmt::format("{}", share) : std::string("off"); },
          [&on, &share](const std::string& text) {
            on = text != "off";
            return !on || read(text, 0.0, 1.0, share);
          }};
}

SettingKey word_key(std::string name, std::vector<std::string> words, std::string help, std::function<std::string()> text,
                    std::function<void(size_t)> set) {
  return {std::move(name), fmt::format("one of {}", fmt::join(words, ", ")), std::move(help), std::move(text),
          [words, set](const std::string& value) {
            const auto found = std::find(words.begin(), words.end(), value);
            if (found == words.end()) return false;
            set(static_cast<size_t>(found - words.begin()));
            return true;
          }};
}

void set_key(const std::string& owner, std::span<const SettingKey> keys, const std::string& name, const std::string& value) {
  std::vector<std::string> names;
  for (const SettingKey& key : keys) {
    if (key.name == name) {
      if (!key.set(value)) fail_usage("{} key {} must be {}, found '{}'", owner, name, key.expects, value);
      return;
    }
    names.push_back(key.name);
  }
  if (names.empty()) fail_usage("{} takes no keys, found '{}={}'", owner, name, value);
  fail_usage("{} has no key '{}'{}; its keys are {}", owner, name, did_you_mean(name, names), fmt::join(names, ", "));
}

}  // namespace longtake
