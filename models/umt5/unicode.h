// UTF-8 to code points and back, and canonical composition (NFC), for cleaning prompts.
#pragma once

#include <string>
#include <string_view>

namespace longtake {

// Error (usage) with the byte offset of the first byte that is not well-formed UTF-8.
std::u32string decode_utf8(std::string_view text);
std::string encode_utf8(const std::u32string& text);

// Unicode normalisation form C.
std::u32string compose_canonically(const std::u32string& text);

// Code points in hexadecimal. Each "X=Y,Z" (also the composition of Y, Z) or "X>Y" (decomposition only), separated by
// spaces.
extern const char* const kCanonicalDecompositions;
// "X:class" or "X-Y:class", hexadecimal code points and decimal classes, in ascending order.
extern const char* const kCombiningClasses;

}  // namespace longtake
