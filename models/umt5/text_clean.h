// Cleaning a prompt before it is tokenised, as the models' training code did: mend the text, undo HTML escapes twice,
// collapse white space.
//
// Mending follows the default settings of the Python library ftfy, line by line until nothing changes: HTML references
// (unless the text so far has a "<"), Windows-1252 characters in the C1 range, Latin ligatures, full-width and
// half-width forms, curly quotes, terminal escapes and control characters, NFC. Its guessing of wrongly decoded text
// ("mojibake": "Ã©" for "é") is left out. Source: skyreels_v2.md section 6.3.
#pragma once

#include <string>
#include <string_view>

namespace longtake {

// UTF-8 in and out. Error (usage) with the byte offset where the text is not valid UTF-8.
std::string clean_prompt(std::string_view text);

// The mending and undoing alone, white space as it is.
std::u32string mend_text(const std::u32string& text);

}  // namespace longtake
