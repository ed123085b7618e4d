#include "models/umt5/caption_links.h"

#include <algorithm>

#include "base/utf8.h"
#include "models/umt5/html_entities.h"
#include "models/umt5/unicode.h"

namespace longtake::caption {
namespace {

constexpr std::array<View, 8> kDomains = {U"com", U"co", U"ru", U"net", U"org", U"edu", U"gov", U"it"};

int hex_value(char32_t c) {
  if (is_digit(c)) return static_cast<int>(c - '0');
  const char32_t low = c | 0x20;
  return low >= 'a' && low <= 'f' ? static_cast<int>(low - 'a') + 10 : -1;
}

// Bytes that need not be UTF-8; what is none becomes U+FFFD.
Text decode_leniently(std::string_view bytes) {
  Text out;
  while (!bytes.empty()) {
    size_t length = 1;
    while (length <= 4 && !is_utf8(bytes.substr(0, length))) ++length;
    const bool valid = length <= std::min<size_t>(4, bytes.size());
    out += valid ? decode_utf8(bytes.substr(0, length)) : Text(1, 0xfffd);
    bytes.remove_prefix(valid ? length : 1);
  }
  return out;
}

bool is_host(char32_t c) { return is_digit(c) || is_letter(c) || c == '.' || c == '-'; }

// "host.tld" with the path behind it, from `at`; kNone where an address (something before "@") follows. `run` is where
// the characters of the host end.
size_t match_host(const Text& text, size_t at, size_t run) {
  for (size_t dot = run; dot-- > at + 1;) {
    if (text[dot] != '.') continue;
    for (const View domain : kDomains) {
      const size_t least = match_word(text, dot + 1, domain);
      if (least == kNone) continue;
      const size_t most = skip(text, least, [](char32_t c) { return is_word(c) || c == '/' || c == '-'; });
      for (size_t end = most + 1; end-- > least;) {
        if (!is_boundary(text, end)) continue;
        const auto free = [&](size_t next) { return next >= text.size() || text[next] != '@'; };
        if (end < text.size() && text[end] == '/' && free(end + 1)) return end + 1;
        if (free(end)) return end;
      }
    }
  }
  return kNone;
}

// Behind the ">" of the tag whose "<" is at `at`, quoted values skipped; kNone where it does not end.
size_t match_tag(const Text& text, size_t at) {
  char32_t quote = 0;
  for (size_t i = at + 1; i < text.size(); ++i) {
    if (quote != 0) {
      if (text[i] == quote) quote = 0;
    } else if (text[i] == '>') {
      return i + 1;
    } else if ((text[i] == '"' || text[i] == '\'') && text[i - 1] == '=') {
      quote = text[i];
    }
  }
  return kNone;
}

// The reference whose "&" is at `at`: a number, or a whole name that HTML knows. The semicolon is optional.
size_t match_reference(const Text& text, size_t at) {
  const bool number = at + 1 < text.size() && text[at + 1] == '#';
  const size_t end = skip(text, at + (number ? 2 : 1), [](char32_t c) { return is_digit(c) || is_letter(c); });
  const Text name = text.substr(at, end - at) + U';';
  if (unescape_html(name).ends_with(U';')) return kNone;
  return end < text.size() && text[end] == ';' ? end + 1 : end;
}

Text resolve_references(const Text& text) {
  Text out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text[at] == '&' ? match_reference(text, at) : kNone;
    out += end == kNone ? Text(1, text[at])
                        : unescape_html(text.substr(at, end - at) + (text[end - 1] == ';' ? U"" : U";"));
    at = end == kNone ? at + 1 : end;
  }
  return out;
}

}  // namespace

Text unquote_url(const Text& text) {
  Text out;
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const int high = at + 2 < text.size() && text[at] == '%' ? hex_value(text[at + 1]) : -1;
    const int low = high >= 0 ? hex_value(text[at + 2]) : -1;
    if (low >= 0) {
      bytes += static_cast<char>(high * 16 + low);
      at += 3;
      continue;
    }
    out += decode_leniently(bytes);
    bytes.clear();
    out += text[at] == '+' ? U' ' : text[at];
    ++at;
  }
  return out + decode_leniently(bytes);
}

Text remove_links(const Text& text, std::initializer_list<View> schemes) {
  size_t no_host_before = 0;  // a run of host characters without a link has none further on either
  return replace(text, U"", [&](size_t at) {
    if (!is_boundary(text, at)) return kNone;
    for (const View scheme : schemes) {
      const size_t end = match_word(text, at, scheme);
      if (end == kNone || end >= text.size()) continue;
      const size_t slashes = skip(text, end, [](char32_t c) { return c == '/'; });
      if (slashes > end) return std::min(slashes, end + 3);
      if (is_digit(text[end]) || is_letter(text[end]) || text[end] == '%') return end + 1;
    }
    if (at < no_host_before) return kNone;
    const size_t run = skip(text, at, is_host);
    const size_t end = match_host(text, at, run);
    if (end == kNone) no_host_before = run;
    return end;
  });
}

Text remove_markup(const Text& text) {
  bool open = false, open_comment = false;  // one that never ends: nor does any behind it
  return resolve_references(replace(text, U"", [&](size_t at) {
    if (open || text[at] != '<' || at + 1 >= text.size()) return kNone;
    if (match_word(text, at, U"<!--") != kNone) {
      const size_t end = open_comment ? kNone : text.find(U"-->", at + 4);
      open_comment = end == kNone;
      return open_comment ? kNone : end + 3;
    }
    const char32_t next = text[at + 1];
    if (!is_letter(next) && !is_one_of(next, U"/!?")) return kNone;
    const size_t end = match_tag(text, at);
    open = end == kNone;
    return end;
  }));
}

}  // namespace longtake::caption
