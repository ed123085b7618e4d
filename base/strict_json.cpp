#include "base/strict_json.h"

#include <nlohmann/json.hpp>

#include <unordered_set>

#include "base/error.h"

namespace longtake {
namespace {

nlohmann::json parse_any(std::span<const uint8_t> text, const std::string& what) {
  using Json = nlohmann::json;
  constexpr int max_depth = 16;
  std::vector<std::unordered_set<std::string>> keys;  // of each object that is open
  int depth = 0;
  const auto watch = [&](int, Json::parse_event_t event, Json& value) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        if (++depth > max_depth)
          fail_file("{} nests deeper than {} levels; the file is damaged or hostile", what, max_depth);
        if (event == Json::parse_event_t::object_start) keys.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        keys.pop_back();
        [[fallthrough]];
      case Json::parse_event_t::array_end:
        --depth;
        break;
      case Json::parse_event_t::key:
        if (!keys.back().insert(value.get<std::string>()).second) {
          fail_file("{} names '{}' twice; the file is damaged", what, value.get<std::string>());
        }
        break;
      default:
        break;
    }
    return true;
  };
  Json json;
  try {
    json = Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& error) {
    fail_file("{} is not JSON ({}); incomplete or damaged file?", what, error.what());
  }
  return json;
}

}  // namespace

nlohmann::json parse_strict_json(std::span<const uint8_t> text, const std::string& what) {
  nlohmann::json json = parse_any(text, what);
  if (!json.is_object()) fail_file("{} is not a JSON object but a JSON {}", what, json.type_name());
  return json;
}

nlohmann::json parse_strict_json_array(std::span<const uint8_t> text, const std::string& what) {
  nlohmann::json json = parse_any(text, what);
  if (!json.is_array()) fail_file("{} is not a JSON array but a JSON {}", what, json.type_name());
  return json;
}

}  // namespace longtake
