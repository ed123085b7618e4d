#include "models/umt5/characters.h"

#include <algorithm>
#include <iterator>

namespace longtake {
namespace {

struct Range {
  char32_t first, last;
};

// Outside ASCII, ascending.
constexpr Range kNoWord[] = {
    {0x80, 0xa9},     {0xab, 0xb1},     {0xb4, 0xb4},       {0xb6, 0xb8},      {0xbb, 0xbb},     {0xbf, 0xbf},
    {0xd7, 0xd7},     {0xf7, 0xf7},     {0x2c2, 0x2c5},     {0x2d2, 0x2df},    {0x300, 0x36f},   {0x37e, 0x37e},
    {0x387, 0x387},   {0x482, 0x489},   {0x55a, 0x55f},     {0x589, 0x5cf},    {0x5f3, 0x60f},   {0x61b, 0x61f},
    {0x64b, 0x65f},   {0x66a, 0x66d},   {0x964, 0x965},     {0x2000, 0x206f},  {0x207a, 0x207e}, {0x208a, 0x208e},
    {0x20a0, 0x2101}, {0x2190, 0x245f}, {0x249c, 0x24e9},   {0x2500, 0x2775},  {0x2794, 0x2bff}, {0x2e00, 0x2fff},
    {0x3000, 0x3004}, {0x3008, 0x3020}, {0x302a, 0x3030},   {0x303d, 0x303f},  {0x3099, 0x309c}, {0x30a0, 0x30a0},
    {0x30fb, 0x30fb}, {0xd800, 0xf8ff}, {0xfe00, 0xfe6f},   {0xfeff, 0xff0f},  {0xff1a, 0xff20}, {0xff3b, 0xff40},
    {0xff5b, 0xff65}, {0xffe0, 0xffff}, {0x1f000, 0x1f0ff}, {0x1f110, 0x1faff}};

// Alphabets whose small letter is the capital plus an offset.
struct Shift {
  char32_t first, last, offset;
};
constexpr Shift kShifted[] = {{'A', 'Z', 32},     {0xc0, 0xd6, 32},   {0xd8, 0xde, 32},     {0x388, 0x38a, 37},
                              {0x38e, 0x38f, 63}, {0x391, 0x3a1, 32}, {0x3a3, 0x3ab, 32},   {0x400, 0x40f, 80},
                              {0x410, 0x42f, 32}, {0x531, 0x556, 48}, {0x2160, 0x216f, 16}, {0xff21, 0xff3a, 32}};
// Blocks where capital and small letter alternate; the capitals have the parity of the first.
constexpr Range kAlternating[] = {{0x100, 0x12f}, {0x132, 0x137}, {0x139, 0x148},   {0x14a, 0x177},
                                  {0x179, 0x17e}, {0x1cd, 0x1dc}, {0x1de, 0x1ef},   {0x1f8, 0x21f},
                                  {0x222, 0x233}, {0x3d8, 0x3ef}, {0x460, 0x481},   {0x48a, 0x4bf},
                                  {0x4c1, 0x4ce}, {0x4d0, 0x52f}, {0x1e00, 0x1e95}, {0x1ea0, 0x1eff}};

}  // namespace

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }

bool is_letter(char32_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_word(char32_t c) {
  if (c < 0x80) return is_digit(c) || is_letter(c) || c == '_';
  const auto it = std::lower_bound(std::begin(kNoWord), std::end(kNoWord), c,
                                   [](const Range& range, char32_t value) { return range.last < value; });
  return it == std::end(kNoWord) || c < it->first;
}

char32_t to_lower(char32_t c) {
  if (c == 0x178) return 0xff;
  if (c == 0x386) return 0x3ac;
  if (c == 0x38c) return 0x3cc;
  if (c == 0x4c0) return 0x4cf;
  for (const Shift& shift : kShifted) {
    if (c >= shift.first && c <= shift.last) return c + shift.offset;
  }
  for (const Range& range : kAlternating) {
    if (c >= range.first && c <= range.last) return (c - range.first) % 2 == 0 ? c + 1 : c;
  }
  return c;
}

bool is_boundary(const std::u32string& text, size_t at) {
  const bool before = at > 0 && is_word(text[at - 1]);
  const bool behind = at < text.size() && is_word(text[at]);
  return before != behind;
}

}  // namespace longtake
