#include "models/umt5/text_clean.h"

#include <unordered_map>

#include "models/umt5/characters.h"
#include "models/umt5/html_entities.h"
#include "models/umt5/unicode.h"

namespace longtake {
namespace {

// Control characters without a meaning in text, among them the deprecated format characters and the byte order mark.
bool is_removed(char32_t c) {
  return c <= 0x08 || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f || (c >= 0x206a && c <= 0x206f) ||
         c == 0xfeff || (c >= 0xfff9 && c <= 0xfffc);
}

// Windows-1252 at 0x80 to 0x9f; 0 where it has no character.
constexpr char32_t kWindows1252[32] = {0x20ac, 0,      0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021,
                                       0x2c6,  0x2030, 0x160,  0x2039, 0x152,  0,      0x17d,  0,
                                       0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                       0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0,      0x17e,  0x178};

const char32_t* find_ligature(char32_t c) {
  static const std::unordered_map<char32_t, const char32_t*> map = {
      {0x132, U"IJ"},       {0x133, U"ij"},  {0x149, U"\u02bcn"}, {0x1c4, U"D\u017d"}, {0x1c5, U"D\u017e"},
      {0x1c6, U"d\u017e"},  {0x1c7, U"LJ"},  {0x1c8, U"Lj"},      {0x1c9, U"lj"},      {0x1ca, U"NJ"},
      {0x1cb, U"Nj"},       {0x1cc, U"nj"},  {0x1f1, U"DZ"},      {0x1f2, U"Dz"},      {0x1f3, U"dz"},
      {0xfb00, U"ff"},      {0xfb01, U"fi"}, {0xfb02, U"fl"},     {0xfb03, U"ffi"},    {0xfb04, U"ffl"},
      {0xfb05, U"\u017ft"}, {0xfb06, U"st"}};
  const auto it = map.find(c);
  return it == map.end() ? nullptr : it->second;
}

// The ordinary form of a full-width or half-width character; the character itself where it has none.
std::u32string ordinary_width(char32_t c) {
  // Half-width Katakana and punctuation from U+FF61, Hangul letters from U+FFA0, symbols from U+FFE0 (0: none).
  static constexpr char32_t kKatakana[] = {
      0x3002, 0x300c, 0x300d, 0x3001, 0x30fb, 0x30f2, 0x30a1, 0x30a3, 0x30a5, 0x30a7, 0x30a9, 0x30e3, 0x30e5,
      0x30e7, 0x30c3, 0x30fc, 0x30a2, 0x30a4, 0x30a6, 0x30a8, 0x30aa, 0x30ab, 0x30ad, 0x30af, 0x30b1, 0x30b3,
      0x30b5, 0x30b7, 0x30b9, 0x30bb, 0x30bd, 0x30bf, 0x30c1, 0x30c4, 0x30c6, 0x30c8, 0x30ca, 0x30cb, 0x30cc,
      0x30cd, 0x30ce, 0x30cf, 0x30d2, 0x30d5, 0x30d8, 0x30db, 0x30de, 0x30df, 0x30e0, 0x30e1, 0x30e2, 0x30e4,
      0x30e6, 0x30e8, 0x30e9, 0x30ea, 0x30eb, 0x30ec, 0x30ed, 0x30ef, 0x30f3, 0x3099, 0x309a};
  static constexpr char32_t kHangul[] = {
      0x1160, 0x1100, 0x1101, 0x11aa, 0x1102, 0x11ac, 0x11ad, 0x1103, 0x1104, 0x1105, 0x11b0, 0x11b1, 0x11b2,
      0x11b3, 0x11b4, 0x11b5, 0x111a, 0x1106, 0x1107, 0x1108, 0x1121, 0x1109, 0x110a, 0x110b, 0x110c, 0x110d,
      0x110e, 0x110f, 0x1110, 0x1111, 0x1112, 0,      0,      0,      0x1161, 0x1162, 0x1163, 0x1164, 0x1165,
      0x1166, 0,      0,      0x1167, 0x1168, 0x1169, 0x116a, 0x116b, 0x116c, 0,      0,      0x116d, 0x116e,
      0x116f, 0x1170, 0x1171, 0x1172, 0,      0,      0x1173, 0x1174, 0x1175};
  static constexpr char32_t kSymbols[] = {0xa2,   0xa3,   0xac,   0,      0xa6,   0xa5,   0x20a9, 0,
                                          0x2502, 0x2190, 0x2191, 0x2192, 0x2193, 0x25a0, 0x25cb};
  static_assert(std::size(kKatakana) == 0xffa0 - 0xff61 && std::size(kHangul) == 0xffdd - 0xffa0 &&
                std::size(kSymbols) == 0xffef - 0xffe0);
  char32_t ordinary = 0;
  if (c == 0x3000) ordinary = ' ';
  if (c >= 0xff01 && c <= 0xff5e) ordinary = c - 0xff01 + '!';
  if (c == 0xff5f || c == 0xff60) ordinary = c - 0xff5f + 0x2985;
  if (c >= 0xff61 && c < 0xffa0) ordinary = kKatakana[c - 0xff61];
  if (c >= 0xffa0 && c < 0xffdd) ordinary = kHangul[c - 0xffa0];
  if (c == 0xffe3) return U" \u0304";
  if (c >= 0xffe0 && c < 0xffef) ordinary = kSymbols[c - 0xffe0];
  return {ordinary ? ordinary : c};
}

char32_t straight_quote(char32_t c) {
  if (c == 0x2bc || (c >= 0x2018 && c <= 0x201b)) return '\'';
  if (c >= 0x201c && c <= 0x201f) return '"';
  return c;
}

// Without colour and cursor sequences: escape, "[", digits and semicolons, a letter.
std::u32string remove_terminal_escapes(const std::u32string& text) {
  std::u32string out;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == 0x1b && i + 1 < text.size() && text[i + 1] == '[') {
      size_t end = i + 2;
      while (end < text.size() && ((text[end] >= '0' && text[end] <= '9') || text[end] == ';')) ++end;
      if (end < text.size() && ((text[end] >= 'a' && text[end] <= 'z') || (text[end] >= 'A' && text[end] <= 'Z'))) {
        i = end + 1;
        continue;
      }
    }
    out += text[i++];
  }
  return out;
}

std::u32string mend_once(const std::u32string& text, bool unescape) {
  std::u32string wide;
  for (char32_t c : unescape ? unescape_html_cautiously(text) : text) {
    if (c >= 0x80 && c < 0xa0 && kWindows1252[c - 0x80] != 0) c = kWindows1252[c - 0x80];
    if (const char32_t* ligature = find_ligature(c)) {
      wide += ligature;
    } else {
      wide += ordinary_width(c);
    }
  }
  std::u32string kept;
  for (const char32_t c : remove_terminal_escapes(wide)) {
    if (!is_removed(c)) kept += straight_quote(c);
  }
  return compose_canonically(kept);
}

std::u32string mend(const std::u32string& text) {
  std::u32string out;
  bool unescape = true;
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = text.find(U'\n', begin);
    const size_t end = newline == text.npos ? text.size() : newline + 1;
    std::u32string line = text.substr(begin, end - begin);
    // A "<" tells of markup, in which references are meant as they stand, from this line on.
    if (line.find(U'<') != line.npos) unescape = false;
    for (;;) {
      std::u32string mended = mend_once(line, unescape);
      if (mended == line) break;
      line = std::move(mended);
    }
    out += line;
    begin = end;
  }
  return out;
}

std::u32string collapse_spaces(const std::u32string& text) {
  std::u32string out;
  bool gap = false;
  for (const char32_t c : text) {
    if (is_space(c)) {
      gap = !out.empty();
      continue;
    }
    if (gap) out += U' ';
    gap = false;
    out += c;
  }
  return out;
}

}  // namespace

std::u32string mend_text(const std::u32string& text) { return unescape_html(unescape_html(mend(text))); }

std::string clean_prompt(std::string_view text) {
  return encode_utf8(collapse_spaces(mend_text(decode_utf8(text))));
}

}  // namespace longtake
