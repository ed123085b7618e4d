// VBench's prompts: VBench_full_info.json, and lists of longer prompts that are aligned with it line by line.
//
// Files are not trusted: bad_file Errors name file and entry. A prompt becomes a file name, so anything that could not be one,
// or could leave its folder, is refused.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace longtake {

struct VbenchPrompt {
  int line = 0;           // from 1, in the file's order
  std::string text;       // "prompt_en": what the file is called
  std::string long_text;  // what the video is made from; the same text without a list of longer ones
  std::string suite;
  std::vector<std::string> dimensions;
};

std::vector<VbenchPrompt> parse_vbench_prompts(const std::string& json, const std::string& origin);

// Sets every long_text. The list must have exactly as many lines as there are prompts, none of them empty.
void set_long_prompts(std::vector<VbenchPrompt>& prompts, const std::string& list, const std::string& origin);

// A prompt file, at most 8 MiB.
std::string read_prompt_file(const std::filesystem::path& path);

}  // namespace longtake
