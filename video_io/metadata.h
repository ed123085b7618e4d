// What a video says about its making: the tags that the writer stores and `longtake inspect` reads back.
//
// The mp4 tag `comment` holds one JSON object (prompt, seed, settings, version and whatever else the program records),
// `description` the prompt as plain text, and `title` its first line, shortened: players show it. UTF-8 throughout.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <optional>
#include <string>

namespace longtake {

using Tags = std::map<std::string, std::string>;

// The tags for a record. `record["prompt"]`, where it is a string, also gives title and description. Bytes that are not
// UTF-8 become U+FFFD, and control characters stay only within the JSON (escaped).
Tags record_tags(const nlohmann::json& record);

// The record of a video written by this program; nothing where the comment is missing or is no JSON object.
std::optional<nlohmann::json> tags_record(const Tags& tags);

}  // namespace longtake
