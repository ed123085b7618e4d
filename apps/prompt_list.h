// Prompts and seeds of verbs that make many clips.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longtake {

// A prompt on each line; empty lines and lines that begin with # do not count. Errors: bad_file.
std::vector<std::string> read_prompts(const std::string& path);

// "4": that many from `first` on; "3,7,9": these. A trailing comma makes a list of one. Errors: usage.
std::vector<uint64_t> read_seeds(const std::string& text, uint64_t first);

}  // namespace longtake
