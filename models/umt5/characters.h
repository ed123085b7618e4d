// Classes of characters for the rules that clean prompts and captions.
#pragma once

#include <string>

namespace longtake {

// White space as Python's str.isspace has it.
bool is_space(char32_t c);

// ASCII.
bool is_digit(char32_t c);
bool is_letter(char32_t c);

// A letter, number or underscore of any alphabet: everything that is neither ASCII punctuation nor in a Unicode block of
// punctuation, symbols or general combining marks. (Vowel signs and other marks of single scripts count as letters.)
bool is_word(char32_t c);

// The small letter of the Latin, Greek, Cyrillic and Armenian alphabets; other characters stay.
char32_t to_lower(char32_t c);

// Whether exactly one of the characters beside position `at` is a word character.
bool is_boundary(const std::u32string& text, size_t at);

}  // namespace longtake
