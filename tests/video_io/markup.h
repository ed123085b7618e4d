// A small check of HTML and SVG that we write: tags close in order, attributes are quoted, texts hold no bare markup.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace longtake {

// "" where the text is well formed, else what is wrong and where.
inline std::string markup_fault(std::string_view text) {
  constexpr std::array<std::string_view, 4> empty_tags{"meta", "link", "img", "br"};
  std::vector<std::string> open;
  const auto at_place = [&](size_t i, const std::string& what) {
    return what + " at '" + std::string(text.substr(i, 60)) + "'";
  };
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '&') {
      const size_t end = text.find(';', i);
      if (end == std::string_view::npos || end - i > 8) return at_place(i, "a bare ampersand");
      i = end + 1;
    } else if (text[i] == '>') {
      return at_place(i, "a bare >");
    } else if (text[i] != '<') {
      ++i;
    } else if (text.substr(i, 2) == "<!") {
      i = text.find('>', i) + 1;
    } else {
      const size_t start = i;
      bool closing = text[i + 1] == '/', self = false;
      i += closing ? 2 : 1;
      const size_t name_end = text.find_first_of(" \t\n/>", i);
      if (name_end == std::string_view::npos || name_end == i) return at_place(start, "no tag name");
      const std::string name(text.substr(i, name_end - i));
      i = name_end;
      bool quoted = false;
      for (; i < text.size() && (quoted || text[i] != '>'); ++i) {
        if (text[i] == '"') quoted = !quoted;
        if (text[i] == '<') return at_place(start, "a < inside a tag");
        if (!quoted && text[i] == '=' && text.substr(i + 1, 1) != "\"")
          return at_place(start, "an attribute without quotes");
      }
      if (i >= text.size()) return at_place(start, "an open tag");
      self = text[i - 1] == '/';
      ++i;
      if (closing) {
        if (open.empty() || open.back() != name) return at_place(start, "</" + name + "> closes nothing");
        open.pop_back();
      } else if (!self && std::find(empty_tags.begin(), empty_tags.end(), name) == empty_tags.end()) {
        open.push_back(name);
        if (name == "style") i = text.find("</style>", i);
      }
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> is never closed";
}

}  // namespace longtake
