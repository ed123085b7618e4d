// Text from outside: whether it is UTF-8, and how to show it in a message.
#pragma once

#include <string>
#include <string_view>

namespace longtake {

// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

// For error messages: one line, control characters and bytes that are not UTF-8 as "?", cut after about 60 bytes
// with "..." behind.
std::string printable(std::string_view text);

}  // namespace longtake
