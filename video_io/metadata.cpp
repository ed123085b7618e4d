#include "video_io/metadata.h"

#include <nlohmann/json.hpp>

namespace longtake {
namespace {

constexpr size_t kTitleBytes = 100;

using nlohmann::json;

// Valid UTF-8, whatever came in: through nlohmann's replacing serialiser and back.
std::string valid_utf8(const std::string& text) {
  return json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
}

std::string without_controls(std::string text) {
  std::erase_if(text, [](char c) { return (c >= 0 && c < ' ' && c != '\n' && c != '\t') || c == 0x7f; });
  return text;
}

std::string shorten(std::string text) {
  text = text.substr(0, text.find('\n'));
  if (text.size() <= kTitleBytes) return text;
  size_t end = kTitleBytes - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not within a character
  return text.substr(0, end) + "...";
}

}  // namespace

Tags record_tags(const json& record) {
  Tags tags{{"comment", record.dump(-1, ' ', false, json::error_handler_t::replace)}};
  if (const auto prompt = record.find("prompt"); prompt != record.end() && prompt->is_string()) {
    const std::string text = without_controls(valid_utf8(prompt->get<std::string>()));
    tags["description"] = text;
    tags["title"] = shorten(text);
  }
  return tags;
}

std::optional<json> tags_record(const Tags& tags) {
  const auto comment = tags.find("comment");
  if (comment == tags.end()) return std::nullopt;
  json record = json::parse(comment->second, nullptr, /*allow_exceptions=*/false);
  if (!record.is_object()) return std::nullopt;
  return record;
}

}  // namespace longtake
