#include "video_io/vbench/prompts.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "base/strict_json.h"
#include "runtime/batch_file.h"
#include "runtime/batch_names.h"
#include "runtime/options_yaml.h"
#include "video_io/vbench/protocol.h"

namespace longtake {
namespace {

using nlohmann::json;

constexpr size_t kMaxPrompts = 100000;

VbenchPrompt read_entry(const json& entry, int line, const std::string& origin) {
  const std::string what = fmt::format("{} entry {}", origin, line);
  if (!entry.is_object()) fail_file("{}: expected an object with prompt_en and dimension, found a JSON {}", what, entry.type_name());
  const auto text = entry.find("prompt_en");
  if (text == entry.end() || !text->is_string()) fail_file("{}: expected the text 'prompt_en'; is this VBench_full_info.json?", what);
  const auto dimensions = entry.find("dimension");
  if (dimensions == entry.end() || !dimensions->is_array()) fail_file("{}: expected the list 'dimension'; is this VBench_full_info.json?", what);
  VbenchPrompt prompt;
  prompt.line = line;
  prompt.text = prompt.long_text = text->get<std::string>();
  if (const std::string fault = name_fault(prompt.text + "-0"); !fault.empty())
    fail_file("{}: the prompt '{}' cannot be a file name: {}", what, printable(prompt.text), fault);
  for (const json& dimension : *dimensions) {
    const VbenchDimension* known = dimension.is_string() ? find_dimension(dimension.get<std::string>()) : nullptr;
    if (known == nullptr)
      fail_file("{}: expected one of VBench's 16 dimensions, found {}; VBench-2.0 and VBench-I2V are other benchmarks", what,
                printable(dimension.dump(-1, ' ', false, json::error_handler_t::replace)));
    prompt.dimensions.emplace_back(known->name);
    if (!is_suite(known->name)) continue;
    if (!prompt.suite.empty()) fail_file("{}: belongs to two suites, {} and {}", what, prompt.suite, known->name);
    prompt.suite = known->name;
  }
  if (prompt.suite.empty()) fail_file("{}: none of its dimensions has a suite of prompts", what);
  return prompt;
}

}  // namespace

std::vector<VbenchPrompt> parse_vbench_prompts(const std::string& text, const std::string& origin) {
  const json list = parse_strict_json_array({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, origin);
  if (list.empty() || list.size() > kMaxPrompts) fail_file("{}: expected VBench's 946 prompts, found {}", origin, list.size());
  std::vector<VbenchPrompt> prompts;
  for (const json& entry : list) prompts.push_back(read_entry(entry, static_cast<int>(prompts.size()) + 1, origin));
  return prompts;
}

void set_long_prompts(std::vector<VbenchPrompt>& prompts, const std::string& list, const std::string& origin) {
  const std::vector<PromptLine> lines = prompt_lines(list, origin);
  const auto expected = "the list must be aligned line by line with the prompts";
  for (size_t i = 0; i < lines.size() && i < prompts.size(); ++i)
    if (lines[i].line != prompts[i].line) fail_file("{} line {}: is empty; {}", origin, prompts[i].line, expected);
  if (lines.size() != prompts.size()) fail_file("{}: expected {} lines, found {}; {}", origin, prompts.size(), lines.size(), expected);
  for (size_t i = 0; i < lines.size(); ++i) prompts[i].long_text = lines[i].text;
}

std::string read_prompt_file(const std::filesystem::path& path) { return read_text_file(path, kMaxPromptListBytes); }

}  // namespace longtake
