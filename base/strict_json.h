// JSON from files that may be hostile: nothing but what the standard allows, no duplicate keys, bounded nesting.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <span>
#include <string>

namespace longtake {

// `what` ("x.safetensors: the header") begins every message. Throws Error (bad_file) where the text is no JSON object,
// repeats a key of an object, or nests deeper than 16.
nlohmann::json parse_strict_json(std::span<const uint8_t> text, const std::string& what);

// The same for a text that is a JSON array.
nlohmann::json parse_strict_json_array(std::span<const uint8_t> text, const std::string& what);

}  // namespace longtake
