// Links, quoted characters and markup in captions. Source: magi1.md section 5, rules 1, 3 and 4.
#pragma once

#include <initializer_list>

#include "models/umt5/text_match.h"

namespace longtake::caption {

// "+" is a space, %XX a byte of UTF-8; bytes that are none become U+FFFD.
Text unquote_url(const Text& text);

// Without these schemes ("http://" alone: the host behind it is a link of its own) and without hosts and their paths.
Text remove_links(const Text& text, std::initializer_list<View> schemes);

// Without tags, comments and declarations; references ("&eacute;") are resolved. A "<" that begins none of
// these stays.
Text remove_markup(const Text& text);

}  // namespace longtake::caption
