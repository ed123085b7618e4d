#include "apps/prompt_list.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/utf8.h"

namespace longtake {
namespace {

constexpr size_t kMostSeeds = 10000;

}  // namespace

std::vector<std::string> read_prompts(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path))
    fail_file("{} cannot be read; give --prompts a text file with a prompt on each line", path);
  std::vector<std::string> prompts;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (!is_utf8(line)) fail_file("{} line {} is not UTF-8 text; save the file as UTF-8", path, number);
    const size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos || line[first] == '#') continue;
    prompts.push_back(line.substr(first, line.find_last_not_of(" \t\r") - first + 1));
  }
  if (prompts.empty()) fail_file("{} holds no prompt; put one on each line", path);
  return prompts;
}

std::vector<uint64_t> read_seeds(const std::string& text, uint64_t first) {
  const auto number = [&](const std::string& part) {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (part.empty() || error != std::errc() || end != part.data() + part.size())
      fail_usage("--seeds must be a count, such as 3, or a list, such as 1,7,42, found '{}'", printable(text));
    return value;
  };
  std::vector<uint64_t> seeds;
  if (text.find(',') == std::string::npos) {
    const uint64_t count = number(text);
    if (count < 1 || count > kMostSeeds)
      fail_usage("--seeds must be a count between 1 and {}, found {} (a list of one seed ends in a comma: '{},')",
                 kMostSeeds, count, count);
    for (uint64_t i = 0; i < count; ++i) seeds.push_back(first + i);
    return seeds;
  }
  for (size_t start = 0; start < text.size();) {
    const size_t comma = std::min(text.find(',', start), text.size());
    seeds.push_back(number(text.substr(start, comma - start)));
    if (std::count(seeds.begin(), seeds.end(), seeds.back()) > 1) fail_usage("--seeds names {} twice", seeds.back());
    start = comma + 1;
  }
  return seeds;
}

}  // namespace longtake
