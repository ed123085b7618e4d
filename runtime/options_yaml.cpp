#include "runtime/options_yaml.h"

#include <fmt/ranges.h>

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/suggest.h"
#include "base/utf8.h"

namespace longtake {
namespace {

const char* kind_of(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Map:
      return "a mapping";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Scalar:
      return "a single value";
    default:
      return "nothing";
  }
}

// Empty where there is no such section.
std::vector<std::string> section_keys(const std::string& section) {
  std::vector<std::string> names;
  for (const OptionInfo& info : option_schema())
    if (!section.empty() && info.section() == section) names.push_back(info.name());
  return names;
}

void check_size(size_t bytes, size_t max_bytes, const std::string& origin) {
  if (bytes > max_bytes)
    fail_file("{}: larger than {} KiB, which is more than such a file may hold", origin, max_bytes >> 10);
}

// Stops a parse that goes on without reading on: every event but the few of the document itself needs a byte or more of text.
class EventLimit final : public YAML::EventHandler {
 public:
  EventLimit(size_t bytes, const std::string& origin) : left_(3 * bytes + 16), origin_(origin) {}
  void OnDocumentStart(const YAML::Mark& mark) override { count(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { count(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { count(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t, const std::string&) override { count(mark); }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override { count(mark); }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override { count(mark); }
  void OnMapEnd() override {}

 private:
  void count(const YAML::Mark& mark) {
    if (left_-- == 0) fail_file("{} line {}: is not YAML", origin_, mark.line + 1);
  }

  size_t left_;
  const std::string& origin_;
};

// The one document, null where there is none.
YAML::Node load_document(const std::string& text, const std::string& origin, size_t max_bytes) {
  check_size(text.size(), max_bytes, origin);
  if (!is_utf8(text)) fail_file("{}: is not UTF-8 text", origin);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    EventLimit limit(text.size(), origin);
    const bool any = parser.HandleNextDocument(limit);
    // Not LoadAll: on some malformed texts yaml-cpp 0.7 finds one empty document after the other, without end.
    if (any && parser.HandleNextDocument(limit)) fail_usage("{}: one YAML document expected, found more", origin);
    return any ? YAML::Load(text) : YAML::Node();
  } catch (const YAML::Exception& error) {
    fail_file("{} line {}: is not YAML ({})", origin, error.mark.line + 1, error.msg);
  }
}

}  // namespace

std::string read_text_file(const std::filesystem::path& path, size_t max_bytes) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) fail_file("{}: cannot be read; is the path right?", path.string());
  std::string text(max_bytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  check_size(text.size(), max_bytes, path.string());
  return text;
}

YAML::Node parse_yaml(const std::string& text, const std::string& origin) {
  const YAML::Node document = load_document(text, origin, kMaxOptionsBytes);
  if (document.IsNull()) return YAML::Node(YAML::NodeType::Map);
  if (!document.IsMap()) fail_usage("{}: 'key: value' lines expected, found {}", origin, kind_of(document));
  return document;
}

YAML::Node parse_yaml_list(const std::string& text, const std::string& origin, size_t max_bytes) {
  const YAML::Node document = load_document(text, origin, max_bytes);
  if (document.IsNull()) return YAML::Node(YAML::NodeType::Sequence);
  if (!document.IsSequence()) fail_usage("{}: a list expected, each entry with '- ' in front, found {}", origin, kind_of(document));
  for (const YAML::Node& entry : document)
    if (!entry.IsMap())
      fail_usage("{} line {}: 'key: value' lines expected, found {}", origin, entry.Mark().line + 1, kind_of(entry));
  return document;
}

std::string YamlEntry::scalar(const std::string& what) const {
  if (value.IsNull()) fail_usage("{}: {} must have a value, found nothing; write \"\" for an empty text", place, what);
  if (!value.IsScalar()) fail_expected(what, "a single value");
  return value.Scalar();
}

void YamlEntry::fail_expected(const std::string& what, const std::string& expected) const {
  fail_usage("{}: {} must be {}, found {}", place, what, expected, kind_of(value));
}

std::vector<YamlEntry> yaml_entries(const YAML::Node& node, const std::string& origin) {
  std::vector<YamlEntry> entries;
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string place = fmt::format("{} line {}", origin, entry.first.Mark().line + 1);
    if (!entry.first.IsScalar()) fail_usage("{}: keys must be plain names", place);
    const std::string key = entry.first.Scalar();
    if (!seen.insert(key).second) fail_usage("{}: the key '{}' is there twice", place, printable(key));
    entries.push_back({key, entry.second, place});
  }
  return entries;
}

std::string unknown_key(std::string_view key, std::span<const std::string> besides) {
  std::vector<std::string> keys(besides.begin(), besides.end());
  for (const OptionInfo& info : option_schema()) {
    // A right name in the wrong section is the likeliest slip.
    if (info.key != key && info.name() == key.substr(key.rfind('.') + 1))
      return fmt::format("unknown key '{}' (did you mean '{}'?)", printable(key), info.key);
    keys.push_back(info.key);
  }
  return fmt::format("unknown key '{}'{}", printable(key), did_you_mean(key, keys));
}

std::vector<OptionAssignment> option_assignments(const YAML::Node& mapping, const std::string& origin,
                                                 std::span<const std::string> besides) {
  std::vector<OptionAssignment> out;
  auto add = [&](const std::string& key, const YamlEntry& entry) {
    const bool known = find_option(key) != nullptr || std::find(besides.begin(), besides.end(), key) != besides.end();
    if (!known) fail_usage("{}: {}", entry.place, unknown_key(key, besides));
    out.push_back({key, entry.scalar(key), entry.place});
  };
  for (const YamlEntry& entry : yaml_entries(mapping, origin)) {
    const std::vector<std::string> names = section_keys(entry.key);
    if (names.empty()) {
      add(entry.key, entry);
      continue;
    }
    if (!entry.value.IsMap())
      entry.fail_expected(entry.key, fmt::format("a section with keys such as {}", fmt::join(names, ", ")));
    for (const YamlEntry& inner : yaml_entries(entry.value, origin)) add(entry.key + "." + inner.key, inner);
  }
  return out;
}

}  // namespace longtake
