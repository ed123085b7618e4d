// Cleaning a caption as MAGI-1's training did before tokenising: what looks like a link, a file name, a size, an
// article number or advertising goes, and with it Chinese, Japanese and Korean ideographs. The rules run twice. Source:
// magi1.md section 5.
//
// Differences in rare text: the lower case of letters outside the Latin, Greek, Cyrillic and Armenian alphabets stays,
// and wrongly decoded text is not guessed (text_clean.h).
#pragma once

#include <string>
#include <string_view>

namespace longtake {

// UTF-8 in and out. Error (usage) with the byte offset where the text is not valid UTF-8.
std::string clean_caption(std::string_view text);

}  // namespace longtake
