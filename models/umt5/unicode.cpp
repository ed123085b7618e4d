#include "models/umt5/unicode.h"

#include <algorithm>
#include <cstdlib>
#include <unordered_map>
#include <vector>

#include "base/error.h"

namespace longtake {
namespace {

// Hangul syllables compose by arithmetic (Unicode standard, section 3.12).
constexpr char32_t kSyllables = 0xac00, kLeading = 0x1100, kVowels = 0x1161, kTrailing = 0x11a7;
constexpr char32_t kLeadingCount = 19, kVowelCount = 21, kTrailingCount = 28;
constexpr char32_t kSyllableCount = kLeadingCount * kVowelCount * kTrailingCount;

uint64_t pair_key(char32_t first, char32_t second) { return static_cast<uint64_t>(first) << 32 | second; }

struct Tables {
  std::unordered_map<char32_t, std::u32string> decompositions;
  std::unordered_map<uint64_t, char32_t> compositions;
  std::unordered_map<char32_t, int> classes;

  Tables() {
    const char* at = kCanonicalDecompositions;
    char* next = nullptr;
    while (*at != 0) {
      const auto whole = static_cast<char32_t>(std::strtoul(at, &next, 16));
      const bool composes = *next == '=';
      std::u32string parts;
      do {
        parts += static_cast<char32_t>(std::strtoul(next + 1, &next, 16));
      } while (*next == ',');
      if (composes) compositions[pair_key(parts[0], parts[1])] = whole;
      decompositions[whole] = std::move(parts);
      at = next + 1;
    }
    for (at = kCombiningClasses; *at != 0; at = next + 1) {
      const auto first = static_cast<char32_t>(std::strtoul(at, &next, 16));
      const auto last = *next == '-' ? static_cast<char32_t>(std::strtoul(next + 1, &next, 16)) : first;
      const int combining = static_cast<int>(std::strtol(next + 1, &next, 10));
      for (char32_t c = first; c <= last; ++c) classes[c] = combining;
    }
  }

  int combining_class(char32_t c) const {
    const auto it = classes.find(c);
    return it == classes.end() ? 0 : it->second;
  }

  void decompose(char32_t c, std::u32string& out) const {
    if (c >= kSyllables && c < kSyllables + kSyllableCount) {
      const char32_t index = c - kSyllables;
      out += kLeading + index / (kVowelCount * kTrailingCount);
      out += kVowels + index % (kVowelCount * kTrailingCount) / kTrailingCount;
      if (index % kTrailingCount != 0) out += kTrailing + index % kTrailingCount;
      return;
    }
    const auto it = decompositions.find(c);
    if (it == decompositions.end()) {
      out += c;
      return;
    }
    for (const char32_t part : it->second) decompose(part, out);
  }

  // 0 where the two do not compose.
  char32_t compose(char32_t first, char32_t second) const {
    if (first >= kLeading && first < kLeading + kLeadingCount && second >= kVowels && second < kVowels + kVowelCount) {
      return kSyllables + ((first - kLeading) * kVowelCount + (second - kVowels)) * kTrailingCount;
    }
    if (first >= kSyllables && first < kSyllables + kSyllableCount && (first - kSyllables) % kTrailingCount == 0 &&
        second > kTrailing && second < kTrailing + kTrailingCount) {
      return first + (second - kTrailing);
    }
    const auto it = compositions.find(pair_key(first, second));
    return it == compositions.end() ? 0 : it->second;
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

}  // namespace

std::u32string decode_utf8(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    char32_t c = length == 1 ? lead : lead & (0x7f >> length);
    bool valid = (lead < 0x80 || (lead >= 0xc2 && lead <= 0xf4)) && i + length <= text.size();
    for (size_t k = 1; valid && k < length; ++k) {
      const auto byte = static_cast<uint8_t>(text[i + k]);
      valid = (byte & 0xc0) == 0x80;
      c = c << 6 | (byte & 0x3f);
    }
    // Overlong forms, surrogates, beyond Unicode.
    valid = valid && !(length == 3 && c < 0x800) && !(length == 4 && c < 0x10000) && !(c >= 0xd800 && c < 0xe000) &&
            c <= 0x10ffff;
    if (!valid) fail_usage("the prompt is not valid UTF-8 at byte {} (0x{:02x}); save it as UTF-8", i, lead);
    out += c;
    i += length;
  }
  return out;
}

std::string encode_utf8(const std::u32string& text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) {
    const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (c >> shift & 0x3f)); };
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (c < 0x800) {
      out += static_cast<char>(0xc0 | c >> 6);
      tail(0);
    } else if (c < 0x10000) {
      out += static_cast<char>(0xe0 | c >> 12);
      tail(6);
      tail(0);
    } else {
      out += static_cast<char>(0xf0 | c >> 18);
      tail(12);
      tail(6);
      tail(0);
    }
  }
  return out;
}

std::u32string compose_canonically(const std::u32string& text) {
  // Nothing below the combining marks decomposes into something that does not compose back.
  if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0x300; })) return text;
  const Tables& table = tables();
  std::u32string parts;
  for (const char32_t c : text) table.decompose(c, parts);

  // Marks of one base sort by combining class.
  std::vector<int> classes;
  for (const char32_t c : parts) classes.push_back(table.combining_class(c));
  for (size_t i = 1; i < parts.size(); ++i) {
    for (size_t k = i; k > 0 && classes[k] != 0 && classes[k - 1] > classes[k]; --k) {
      std::swap(parts[k], parts[k - 1]);
      std::swap(classes[k], classes[k - 1]);
    }
  }

  // A mark joins the last base unless a mark of its class or higher (or a base) stands between.
  std::u32string out;
  size_t base = std::u32string::npos;
  int last = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int current = classes[i];
    if (base != std::u32string::npos && (out.size() == base + 1 || (last < current && last != 0))) {
      if (const char32_t joined = table.compose(out[base], parts[i])) {
        out[base] = joined;
        continue;
      }
    }
    if (current == 0) base = out.size();
    last = current;
    out += parts[i];
  }
  return out;
}

}  // namespace longtake
