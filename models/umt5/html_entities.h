// HTML character references ("&amp;", "&#233;") to characters.
#pragma once

#include <string>

namespace longtake {

// By the rules of the HTML standard, as browsers read text: the semicolon is optional for numbers and some old names,
// the longest known name counts ("&notit;" is U+00AC followed by "it;"), unknown names stay. Numbers of characters that
// cannot be become U+FFFD or nothing.
std::u32string unescape_html(const std::u32string& text);

// Only what is unambiguous: references that end in a semicolon, and names in capitals ("&EACUTE;"), which old databases
// contain.
std::u32string unescape_html_cautiously(const std::u32string& text);

// "Name:X" or "Name:X,Y" with hexadecimal code points, separated by spaces; "Name*" also counts without a semicolon.
extern const char* const kHtmlEntities;
// Names in capitals whose character differs from that of the name in small letters.
extern const char* const kUppercaseEntities;

}  // namespace longtake
