#include "models/umt5/caption_clean.h"

#include <algorithm>
#include <vector>

#include "models/umt5/caption_links.h"
#include "models/umt5/text_clean.h"
#include "models/umt5/text_match.h"
#include "models/umt5/unicode.h"

namespace longtake {
namespace {

using namespace caption;

constexpr std::array<View, 9> kFileTypes = {U"png", U"jpg", U"jpeg", U"bmp", U"webp", U"eps", U"pdf", U"apk", U"mp4"};

// --- Characters -----------------------------------------------------------------------------------------------------

bool is_ideograph_block(char32_t c) { return (c >= 0x31c0 && c <= 0x4dff) || (c >= 0x4e00 && c <= 0x9fff); }

bool is_dash(char32_t c) {
  return (c >= 0x2010 && c <= 0x2015) ||
         is_one_of(c,
                   U"-\u058a\u05be\u1400\u1806\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0\ufe31\ufe32\ufe58"
                   U"\ufe63\uff0d");
}

char32_t plain_quote(char32_t c) {
  if (is_one_of(c, U"`\u00b4\u00ab\u00bb\u201c\u201d\u00a8")) return '"';
  return is_one_of(c, U"\u2018\u2019") ? U'\'' : c;
}

Text fold_characters(const Text& text) {
  Text out;
  for (const char32_t c : text) {
    if (is_ideograph_block(c)) continue;
    // A run of dashes is one.
    if (is_dash(c) && !out.empty() && out.back() == '-') continue;
    out += is_dash(c) ? U'-' : plain_quote(c);
  }
  return out;
}

// --- Numbers and words ----------------------------------------------------------------------------------------------

size_t match_ip_address(const Text& text, size_t at) {
  for (int part = 0; part < 4; ++part) {
    if (part > 0) {
      if (at >= text.size() || text[at] != '.') return kNone;
      ++at;
    }
    const size_t end = std::min(skip_digits(text, at), at + 3);
    if (end == at) return kNone;
    at = end;
  }
  return at;
}

// "d:dd" and white space at the very end: a clip's length.
size_t match_length(const Text& text, size_t at) {
  const bool clock = at + 4 < text.size() && is_digit(text[at]) && text[at + 1] == ':' && is_digit(text[at + 2]) &&
                     is_digit(text[at + 3]);
  return clock && is_space(text[at + 4]) && skip_spaces(text, at + 4) == text.size() ? text.size() : kNone;
}

// "#12", "#12345": not four digits, which may be a year.
size_t match_hash_number(const Text& text, size_t at) {
  if (text[at] != '#') return kNone;
  const size_t end = skip_digits(text, at + 1), digits = end - at - 1;
  return digits >= 1 && digits != 4 && is_boundary(text, end) ? end : kNone;
}

// Characters without white space that end in a file type.
size_t match_file_name(const Text& text, size_t at) {
  const size_t run = skip(text, at, [](char32_t c) { return !is_space(c); });
  for (size_t dot = run; dot-- > at + 1;) {
    if (text[dot] != '.') continue;
    if (const size_t end = match_any(text, dot + 1, kFileTypes); end != kNone) return end;
  }
  return kNone;
}

Text remove_file_names(const Text& text) {
  size_t none_before = 0;
  return replace(text, U"", [&](size_t at) {
    if (at < none_before || is_space(text[at])) return kNone;
    const size_t end = match_file_name(text, at);
    if (end == kNone) none_before = skip(text, at, [](char32_t c) { return !is_space(c); });
    return end;
  });
}

// A word as runs of letters ("L") and digits ("D") with their lengths; empty where it has other characters.
struct Shape {
  std::string runs;
  std::vector<size_t> lengths;
};

Shape shape_of(View word) {
  Shape shape;
  for (const char32_t c : word) {
    if (!is_digit(c) && !is_letter(c)) return {};
    const char kind = is_digit(c) ? 'D' : 'L';
    if (shape.runs.empty() || shape.runs.back() != kind) {
      shape.runs += kind;
      shape.lengths.push_back(0);
    }
    ++shape.lengths.back();
  }
  return shape;
}

// Every whole word whose shape the predicate takes replaced by `with`.
template <class Predicate>
Text replace_words(const Text& text, View with, Predicate takes) {
  return replace(text, with, [&](size_t at) {
    if (!is_word(text[at]) || !is_boundary(text, at)) return kNone;
    const size_t end = skip(text, at, is_word);
    return takes(shape_of(View(text).substr(at, end - at))) ? end : kNone;
  });
}

bool is_long_number(const Shape& shape) { return shape.runs == "D" && shape.lengths[0] >= 6; }

// "ab123", "a1b", "1a2": article numbers.
bool is_article_number(const Shape& shape) {
  if (shape.runs == "LD") return shape.lengths[0] <= 3 && shape.lengths[1] >= 3 && shape.lengths[1] <= 15;
  return shape.runs == "LDL" || shape.runs == "DLD";
}

bool is_mixed(const Shape& shape) { return shape.runs.starts_with("LDLD") || shape.runs.starts_with("DLDLD"); }

// --- Advertising ----------------------------------------------------------------------------------------------------

// Behind the word and at least one white space.
size_t match_word_and_spaces(const Text& text, size_t at, View word) {
  const size_t end = match_word(text, at, word);
  if (end == kNone) return kNone;
  const size_t spaces = skip_spaces(text, end);
  return spaces > end ? spaces : kNone;
}

size_t match_shipping(const Text& text, size_t at) {
  for (const View word : {View(U"worldwide"), View(U"free")}) {
    if (const size_t end = match_word_and_spaces(text, at, word); end != kNone) at = end;
  }
  return match_word(text, at, U"shipping");
}

// Behind a single white space and the word; `at` where it is not there.
size_t skip_space_and_word(const Text& text, size_t at, View word) {
  const size_t end = at < text.size() && is_space(text[at]) ? match_word(text, at + 1, word) : kNone;
  return end == kNone ? at : end;
}

size_t match_download(const Text& text, size_t at) {
  const size_t free = match_word(text, at, U"free");
  if (free != kNone && free < text.size() && is_space(text[free])) at = free + 1;
  const size_t end = match_word(text, at, U"download");
  return end == kNone ? kNone : skip_space_and_word(text, end, U"free");
}

size_t match_click(const Text& text, size_t at) {
  const size_t click = match_word(text, at, U"click");
  if (click == kNone || !is_boundary(text, at)) return kNone;
  for (const View word : {View(U"for"), View(U"on")}) {
    const size_t end = skip_space_and_word(text, click, word);
    if (end == click || end >= text.size() || !is_space(text[end])) continue;
    const size_t target = skip(text, end + 1, is_word);
    if (target > end + 1) return target;
  }
  return kNone;
}

size_t match_image_type(const Text& text, size_t at) {
  const size_t end = is_boundary(text, at) ? match_any(text, at, kFileTypes) : kNone;
  if (end == kNone) return kNone;
  const size_t image = skip_space_and_word(text, end, U"image");
  return image > end && image < text.size() && text[image] == 's' ? image + 1 : image;
}

size_t match_page(const Text& text, size_t at) {
  const size_t number = is_boundary(text, at) ? match_word_and_spaces(text, at, U"page") : kNone;
  if (number == kNone) return kNone;
  const size_t end = skip_digits(text, number);
  return end > number && is_boundary(text, end) ? end : kNone;
}

// "3x4", "3.5x4."
size_t match_size(const Text& text, size_t at) {
  if (!is_boundary(text, at)) return kNone;
  const auto digits = [&](size_t from) {
    const size_t end = skip_digits(text, from);
    return end > from ? end : kNone;
  };
  const auto fraction = [&](size_t from) {
    return from < text.size() && text[from] == '.' ? skip_digits(text, from + 1) : from;
  };
  const size_t first = digits(at);
  if (first == kNone) return kNone;
  const size_t times = fraction(first);
  if (times >= text.size() || !is_one_of(text[times], U"x\u0445\u00d7")) return kNone;
  const size_t second = digits(times + 1);
  if (second == kNone) return kNone;
  const size_t end = fraction(second);
  if (is_boundary(text, end)) return end;
  return is_boundary(text, second) ? second : kNone;
}

// --- Punctuation ----------------------------------------------------------------------------------------------------

bool is_ornament(char32_t c) {
  return is_one_of(c, U"#\u00ae\u2022\u00a9\u2122&@\u00b7\u00ba\u00bd\u00be\u00bf\u00a1\u00a7~)(][}{|\\/*");
}

// White space, a dot, white space.
size_t match_lone_dot(const Text& text, size_t at) {
  if (at > 0 && is_space(text[at - 1])) return kNone;  // the white space that begins further left did not match
  const size_t dot = skip_spaces(text, at);
  if (dot == at || dot >= text.size() || text[dot] != '.') return kNone;
  const size_t end = skip_spaces(text, dot + 1);
  return end > dot + 1 ? end : kNone;
}

// White space, a colon, white space, behind a word.
size_t match_lone_colon(const Text& text, size_t at) {
  if (!is_boundary(text, at)) return kNone;
  const size_t colon = skip_spaces(text, at);
  if (colon == at || colon >= text.size() || text[colon] != ':') return kNone;
  const size_t end = skip_spaces(text, colon + 1);
  return end > colon + 1 ? end : kNone;
}

// A space behind a comma, dot or slash that follows no digit and precedes a word.
Text space_punctuation(const Text& text) {
  Text out;
  for (size_t at = 0; at < text.size(); ++at) {
    out += text[at];
    if (at > 0 && !is_digit(text[at - 1]) && is_one_of(text[at], U",./") && is_boundary(text, at + 1)) out += U' ';
  }
  return out;
}

Text trim_ends(Text text) {
  const auto quote = [](char32_t c) { return c == '"' || c == '\''; };
  if (text.size() > 2 && quote(text.front()) && quote(text.back())) text = text.substr(1, text.size() - 2);
  if (!text.empty() && is_one_of(text.front(), U"'_,-:;")) text.erase(0, 1);
  if (!text.empty() && is_one_of(text.back(), U"'_,-:+")) text.pop_back();
  const bool dotted = text.size() > 1 && text[0] == '.' && std::none_of(text.begin(), text.end(), is_space);
  return dotted ? Text() : strip(text);
}

// Rules 1 to 18 of the source.
Text clean_before_mending(Text text) {
  text = strip(unquote_url(text));
  std::transform(text.begin(), text.end(), text.begin(), to_lower);
  text = replace(text, U"person", [&](size_t at) { return match_word(text, at, U"<person>"); });
  text = remove_links(text, {U"https:", U"http:"});
  text = remove_links(text, {U"www:"});
  text = remove_markup(text);
  text = replace(text, U"", [&](size_t at) {
    const size_t end = text[at] == '@' ? skip(text, at + 1, is_word) : at;
    return end > at + 1 ? end : kNone;
  });
  text = fold_characters(text);
  text = replace(text, U"", [&](size_t at) {
    const size_t end = match_word(text, at, U"&quot");
    return end != kNone && end < text.size() && text[end] == ';' ? end + 1 : end;
  });
  text = replace(text, U"", [&](size_t at) { return match_word(text, at, U"&amp"); });
  text = replace(text, U" ", [&](size_t at) { return match_ip_address(text, at); });
  text = replace(text, U"", [&](size_t at) { return match_length(text, at); });
  text = replace(text, U" ", [&](size_t at) { return match_word(text, at, U"\\n"); });
  text = replace(text, U"", [&](size_t at) { return match_hash_number(text, at); });
  text = replace_words(text, U"", is_long_number);
  text = remove_file_names(text);
  text = replace_runs(text, U"\"", 2, [](char32_t c) { return c == '"' || c == '\''; });
  text = replace_runs(text, U" ", 2, [](char32_t c) { return c == '.'; });
  text = replace_runs(text, U" ", 1, is_ornament);
  text = replace(text, U" ", [&](size_t at) { return match_lone_dot(text, at); });
  const auto joint = [](char32_t c) { return c == '-' || c == '_'; };
  if (std::count_if(text.begin(), text.end(), joint) > 3) std::replace_if(text.begin(), text.end(), joint, U' ');
  return text;
}

// Rules 20 to 27.
Text clean_after_mending(Text text) {
  text = replace_words(text, U"", is_article_number);
  text = replace(text, U"", [&](size_t at) { return match_shipping(text, at); });
  text = replace(text, U"", [&](size_t at) { return match_download(text, at); });
  text = replace(text, U"", [&](size_t at) { return match_click(text, at); });
  text = replace(text, U"", [&](size_t at) { return match_image_type(text, at); });
  text = replace(text, U"", [&](size_t at) { return match_page(text, at); });
  text = replace_words(text, U" ", is_mixed);
  text = replace(text, U"", [&](size_t at) { return match_size(text, at); });
  text = replace(text, U": ", [&](size_t at) { return match_lone_colon(text, at); });
  text = space_punctuation(text);
  text = replace_runs(text, U" ", 1, is_space);
  return trim_ends(std::move(text));
}

}  // namespace

std::string clean_caption(std::string_view caption) {
  Text text = decode_utf8(caption);
  for (int pass = 0; pass < 2; ++pass) text = clean_after_mending(strip(mend_text(clean_before_mending(text))));
  return encode_utf8(text);
}

}  // namespace longtake
