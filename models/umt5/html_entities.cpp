#include "models/umt5/html_entities.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <unordered_map>

namespace longtake {
namespace {

struct Entity {
  std::u32string characters;
  bool bare = false;  // counts without a semicolon
};

using EntityMap = std::unordered_map<std::string, Entity>;

EntityMap read_entities(const char* at) {
  EntityMap map;
  while (*at != 0) {
    const char* colon = std::strchr(at, ':');
    Entity entity;
    entity.bare = colon[-1] == '*';
    const std::string name(at, colon - (entity.bare ? 1 : 0));
    char* next = nullptr;
    do {
      entity.characters += static_cast<char32_t>(std::strtoul(colon + 1, &next, 16));
      colon = next;
    } while (*next == ',');
    map.emplace(name, std::move(entity));
    at = next + 1;
  }
  return map;
}

const EntityMap& entities() {
  static const EntityMap map = read_entities(kHtmlEntities);
  return map;
}

const EntityMap& uppercase_entities() {
  static const EntityMap map = read_entities(kUppercaseEntities);
  return map;
}

const Entity* find(const EntityMap& map, const std::string& name) {
  const auto it = map.find(name);
  return it == map.end() ? nullptr : &it->second;
}

bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }
bool is_hex(char32_t c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_alphanumeric(char32_t c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// What a numeric reference stands for.
std::u32string numbered(uint32_t number) {
  // Numbers 0x80 to 0x9f mean Windows-1252, where it has a character.
  static constexpr char32_t kWindows[32] = {0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021,
                                            0x2c6,  0x2030, 0x160,  0x2039, 0x152,  0x8d,   0x17d,  0x8f,
                                            0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                            0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};
  if (number == 0 || number > 0x10ffff || (number >= 0xd800 && number < 0xe000)) return U"\ufffd";
  if (number == 0x0d) return U"\r";
  if (number >= 0x80 && number < 0xa0) return {kWindows[number - 0x80]};
  const bool control = (number < 0x20 && number != '\t' && number != '\n' && number != '\f') || number == 0x7f;
  const bool noncharacter = (number >= 0xfdd0 && number <= 0xfdef) || (number & 0xfffe) == 0xfffe;
  if (control || noncharacter) return {};
  return {static_cast<char32_t>(number)};
}

// Reads the number behind "&#" at `begin`; `end` is moved behind it, without a semicolon. Nothing where there is no
// digit.
std::optional<uint32_t> read_number(const std::u32string& text, size_t begin, size_t& end) {
  const bool hex = begin < text.size() && (text[begin] == 'x' || text[begin] == 'X');
  end = begin + (hex ? 1 : 0);
  const size_t first = end;
  uint32_t number = 0;
  for (; end < text.size() && (hex ? is_hex(text[end]) : is_digit(text[end])); ++end) {
    const char32_t c = text[end];
    const uint32_t digit = is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
    number = std::min<uint32_t>(number * (hex ? 16 : 10) + digit, 0x110000);  // saturates, so it cannot wrap
  }
  return end == first ? std::nullopt : std::optional(number);
}

// The longest prefix of at least two characters that is a name without a semicolon.
const Entity* find_bare_prefix(const std::string& name, size_t& length) {
  for (length = name.size(); length >= 2; --length) {
    const Entity* entity = find(entities(), name.substr(0, length));
    if (entity && entity->bare) return entity;
  }
  return nullptr;
}

}  // namespace

std::u32string unescape_html(const std::u32string& text) {
  constexpr size_t kLongest = 32;
  std::u32string out;
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '&') {
      out += text[i++];
      continue;
    }
    size_t end = i + 1;
    if (end < text.size() && text[end] == '#') {
      if (const auto number = read_number(text, i + 2, end)) {
        out += numbered(*number);
        i = end < text.size() && text[end] == ';' ? end + 1 : end;
      } else {
        out += text[i++];
      }
      continue;
    }
    std::string name;
    const std::u32string_view stop = U"\t\n\f <&#;";
    for (; end < text.size() && end - i <= kLongest && stop.find(text[end]) == stop.npos; ++end) {
      // No name has other characters; the placeholder only keeps the count.
      name += text[end] < 0x80 ? static_cast<char>(text[end]) : '?';
    }
    const bool closed = end < text.size() && text[end] == ';';
    size_t length = 0;
    if (const Entity* entity = closed ? find(entities(), name) : nullptr) {
      out += entity->characters;
      i = end + 1;
    } else if (const Entity* prefix = find_bare_prefix(name, length)) {
      out += prefix->characters;
      i += 1 + length;
    } else {
      out.append(text, i, end - i);
      i = end;
    }
  }
  return out;
}

std::u32string unescape_html_cautiously(const std::u32string& text) {
  constexpr size_t kLongest = 24;
  std::u32string out;
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '&') {
      out += text[i++];
      continue;
    }
    const bool number = i + 1 < text.size() && text[i + 1] == '#';
    const size_t begin = i + (number ? 2 : 1);
    size_t end = begin;
    while (end < text.size() && end - begin < kLongest && is_alphanumeric(text[end])) ++end;
    const bool reference = end > begin && end < text.size() && text[end] == ';';
    if (!reference) {
      out += text[i++];
      continue;
    }
    std::u32string characters;
    if (number) {
      size_t behind = 0;
      const auto value = read_number(text, begin, behind);
      if (value && behind == end && *value != ';') {
        characters = numbered(*value);
      } else {
        characters.assign(text, i, end + 1 - i);
      }
    } else {
      const std::string name(text.begin() + static_cast<ptrdiff_t>(begin), text.begin() + static_cast<ptrdiff_t>(end));
      std::string small = name;
      for (char& c : small) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
      const bool capitals = std::none_of(name.begin(), name.end(), [](char c) { return c >= 'a' && c <= 'z'; });
      size_t length = 0;
      const Entity* entity = find(entities(), name);
      if (!entity && capitals && !find_bare_prefix(name, length)) {
        entity = find(uppercase_entities(), name);
        if (!entity) entity = find(entities(), small);
      }
      characters = entity ? entity->characters : text.substr(i, end + 1 - i);
    }
    out += characters;
    i = end + 1;
  }
  return out;
}

}  // namespace longtake
