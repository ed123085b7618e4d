// "Did you mean …": the known word nearest to a misspelt one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace longtake {

// Damerau-Levenshtein distance (optimal string alignment), case-insensitive.
int edit_distance(std::string_view a, std::string_view b);

// The candidate nearest to `word`, or "" where none is near enough to be a likely slip of the fingers.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

// " (did you mean 'x'?)" or "".
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

}  // namespace longtake
