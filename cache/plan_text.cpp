#include "cache/plan_text.h"

#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/pending_file.h"
#include "base/strict_json.h"
#include "base/suggest.h"
#include "base/utf8.h"

namespace longtake {
namespace {

using Json = nlohmann::json;
using Ranges = std::vector<std::pair<int64_t, int64_t>>;

constexpr int kVersion = 1;
constexpr uintmax_t kMaxBytes = 256u << 20;
constexpr int64_t kMaxPlane = 1 << 20, kMaxFrames = 4096, kMaxChunks = 4096, kMaxWindows = 65536, kMaxSteps = 1000, kMaxBranches = 8;
constexpr double kMaxClip = 100;

// A field of the document and the way to it, for messages.
struct Field {
  const Json& value;
  std::string path;

  [[noreturn]] void expected(const std::string& what) const {
    fail_file("{}: expected {}, found {}", path, what, printable(value.dump(-1, ' ', true, Json::error_handler_t::replace)));
  }
  void object(const std::vector<std::string>& known) const {
    if (!value.is_object()) expected("an object");
    for (const auto& [key, ignored] : value.items())
      if (std::find(known.begin(), known.end(), key) == known.end())
        fail_file("{}: unknown field '{}'{}; fields are {}", path, printable(key), did_you_mean(key, known), fmt::join(known, ", "));
  }
  std::optional<Field> get(const std::string& key) const {
    const auto found = value.find(key);
    if (found == value.end()) return std::nullopt;
    return Field{*found, path + (path.ends_with(": ") ? "" : ".") + key};
  }
  Field need(const std::string& key) const {
    const auto field = get(key);
    if (!field) fail_file("{}: the field '{}' is missing", path.ends_with(": ") ? path.substr(0, path.size() - 2) : path, key);
    return *field;
  }
  const Json& array() const {
    if (!value.is_array() || value.empty()) expected("a list that is not empty");
    return value;
  }
  Field at(size_t i) const { return {value[i], fmt::format("{}[{}]", path, i)}; }
  int64_t whole(int64_t low, int64_t high) const {
    const bool fits = value.is_number_unsigned() ? value.get<uint64_t>() <= static_cast<uint64_t>(high)
                                                 : value.is_number_integer() && value.get<int64_t>() <= high;
    if (!fits || value.get<int64_t>() < low) expected(fmt::format("a whole number from {} to {}", low, high));
    return value.get<int64_t>();
  }
  double number(double low, double high) const {
    if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high))
      expected(fmt::format("a number from {} to {}", low, high));
    return value.get<double>();
  }
  std::string text() const {
    if (!value.is_string()) expected("text");
    return value.get<std::string>();
  }
  template <class T>
  T choice(const std::vector<std::pair<std::string, T>>& choices) const {
    std::vector<std::string> names;
    for (const auto& [name, result] : choices) {
      if (value.is_string() && value == name) return result;
      names.push_back(name);
    }
    expected(fmt::format("one of {}", fmt::join(names, ", ")));
  }
};

const std::vector<std::pair<std::string, AttentionScheme>> kAttention{{"causal", AttentionScheme::causal}, {"window", AttentionScheme::window}};
const std::vector<std::pair<std::string, bool>> kBase{{"causal", false}, {"none", true}};
const std::vector<std::pair<std::string, Rest>> kRest{{"reuse", Rest::reuse}, {"predict", Rest::predict}};
const std::vector<std::pair<std::string, Phase>> kPhase{{"full", Phase::full}, {"chunk", Phase::chunk}, {"token", Phase::token}};

template <class T>
std::string name_in(const std::vector<std::pair<std::string, T>>& choices, T value) {
  for (const auto& [name, choice] : choices)
    if (choice == value) return name;
  return {};
}

// A whole number at the front of `text`, which is cut off.
std::optional<int64_t> take_number(std::string_view& text, int64_t high) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 0 || value > high || text.front() == '-') return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

// 5, "5", "5-48", "7-22/3".
PlanRange range_of(const Field& field, int64_t limit) {
  const int64_t high = limit - 1;
  if (field.value.is_number()) {
    const int i = static_cast<int>(field.whole(0, high));
    return {i, i, 1};
  }
  const auto wrong = [&] { field.expected(fmt::format("a number, \"FIRST-LAST\" or \"FIRST-LAST/EVERY\" within 0 to {}", high)); };
  if (!field.value.is_string()) wrong();
  const std::string value = field.text();
  std::string_view text = value;
  const auto first = take_number(text, high);
  if (!first) wrong();
  PlanRange range{static_cast<int>(*first), static_cast<int>(*first), 1};
  if (take(text, '-')) {
    const auto last = take_number(text, high);
    if (!last || *last < *first) wrong();
    range.last = static_cast<int>(*last);
    if (take(text, '/')) {
      const auto every = take_number(text, limit);
      if (!every || *every < 1) wrong();
      range.every = static_cast<int>(*every);
    }
  }
  if (!text.empty()) wrong();
  return range;
}

std::string text_of(const PlanRange& r) {
  if (r.first == r.last) return fmt::format("{}", r.first);
  return r.every == 1 ? fmt::format("{}-{}", r.first, r.last) : fmt::format("{}-{}/{}", r.first, r.last, r.every);
}

// "0-3,7,9-12", ascending, each below `limit`.
Ranges ranges_of(const Field& field, int64_t limit) {
  const std::string value = field.text();
  std::string_view text = value;
  Ranges ranges;
  do {
    const auto first = take_number(text, limit - 1);
    auto last = first;
    if (first && take(text, '-')) last = take_number(text, limit - 1);
    if (!first || !last || *last < *first || (!ranges.empty() && *first <= ranges.back().second))
      field.expected(fmt::format("ascending positions below {} such as \"0-3,7,9-12\" (position {} of the text is not)", limit,
                                 value.size() - text.size()));
    ranges.push_back({*first, *last});
  } while (take(text, ','));
  if (!text.empty()) field.expected(fmt::format("a comma at position {} of the text", value.size() - text.size()));
  return ranges;
}

std::string text_of(const Ranges& ranges) {
  std::string out;
  for (const auto& [first, last] : ranges) {
    if (!out.empty()) out += ',';
    out += first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
  }
  return out;
}

PlanTokens tokens_of(const Field& field, const std::optional<PlanGeometry>& geometry) {
  if (field.value.is_string())
    return {.kind = field.choice<PlanTokens::Kind>({{"none", PlanTokens::Kind::none}, {"all", PlanTokens::Kind::all}})};
  field.object({"columns", "list", "fraction", "seed"});
  const auto columns = field.get("columns"), list = field.get("list"), fraction = field.get("fraction"), seed = field.get("seed");
  if (columns.has_value() + list.has_value() + fraction.has_value() != 1 || (seed && !fraction))
    field.expected("\"none\", \"all\", or one of columns, list, and fraction with its seed");
  if (fraction) {
    PlanTokens tokens{.kind = PlanTokens::Kind::fraction, .ranges = {}, .fraction = fraction->number(0, 1)};
    if (seed) {
      if (!seed->value.is_number_unsigned()) seed->expected("a whole number from 0 to 18446744073709551615");
      tokens.seed = seed->value.get<uint64_t>();
    }
    return tokens;
  }
  if (!geometry) fail_file("{}: positions need the field 'geometry', which says how many tokens a latent frame has", field.path);
  if (columns) return {.kind = PlanTokens::Kind::columns, .ranges = ranges_of(*columns, geometry->plane)};
  return {.kind = PlanTokens::Kind::list, .ranges = ranges_of(*list, geometry->plane * kMaxFrames)};
}

PlanEntry entry_of(const Field& field, const std::optional<PlanGeometry>& geometry) {
  field.object({"window", "chunk", "step", "branch", "tokens", "rest", "clip", "phase", "distance"});
  PlanEntry entry;
  const auto range = [&](const char* key, PlanRange& target, int64_t limit) {
    if (const auto value = field.get(key)) target = range_of(*value, limit);
  };
  range("window", entry.window, kMaxWindows);
  range("chunk", entry.chunk, kMaxChunks);
  range("step", entry.step, kMaxSteps);
  range("branch", entry.branch, kMaxBranches);
  entry.tokens = tokens_of(field.need("tokens"), geometry);
  if (const auto rest = field.get("rest")) entry.rest = rest->choice(kRest);
  if (const auto clip = field.get("clip")) entry.clip = clip->number(0, kMaxClip);
  if (const auto phase = field.get("phase")) entry.phase = phase->choice(kPhase);
  if (const auto distance = field.get("distance")) entry.distance = distance->number(-1e300, 1e300);
  return entry;
}

PlanGeometry geometry_of(const Field& field) {
  field.object({"plane", "steps", "branches", "windows"});
  PlanGeometry g;
  g.plane = field.need("plane").whole(1, kMaxPlane);
  g.steps = static_cast<int>(field.need("steps").whole(1, kMaxSteps));
  g.branches = static_cast<int>(field.need("branches").whole(1, kMaxBranches));
  const Field windows = field.need("windows");
  if (windows.array().size() > kMaxWindows) fail_file("{}: expected at most {} windows, found {}", windows.path, kMaxWindows, windows.value.size());
  for (size_t w = 0; w < windows.value.size(); ++w) {
    const Field window = windows.at(w);
    window.object({"frames", "prefix"});
    const Field frames = window.need("frames");
    if (frames.array().size() > kMaxChunks) fail_file("{}: expected at most {} chunks, found {}", frames.path, kMaxChunks, frames.value.size());
    PlanGeometry::Window made;
    for (size_t c = 0; c < frames.value.size(); ++c) made.frames.push_back(frames.at(c).whole(1, kMaxFrames));
    if (const auto prefix = window.get("prefix")) made.prefix = static_cast<int>(prefix->whole(0, static_cast<int64_t>(frames.value.size())));
    g.windows.push_back(std::move(made));
  }
  return g;
}

nlohmann::ordered_json json_of(const PlanEntry& entry) {
  nlohmann::ordered_json out;
  const auto range = [&](const char* key, const PlanRange& r) {
    if (r == PlanRange()) return;
    if (r.first == r.last)
      out[key] = r.first;
    else
      out[key] = text_of(r);
  };
  range("window", entry.window);
  range("chunk", entry.chunk);
  range("step", entry.step);
  range("branch", entry.branch);
  switch (entry.tokens.kind) {
    case PlanTokens::Kind::none: out["tokens"] = "none"; break;
    case PlanTokens::Kind::all: out["tokens"] = "all"; break;
    case PlanTokens::Kind::columns: out["tokens"] = {{"columns", text_of(entry.tokens.ranges)}}; break;
    case PlanTokens::Kind::list: out["tokens"] = {{"list", text_of(entry.tokens.ranges)}}; break;
    case PlanTokens::Kind::fraction: out["tokens"] = {{"fraction", entry.tokens.fraction}, {"seed", entry.tokens.seed}}; break;
  }
  if (entry.rest != Rest::reuse) out["rest"] = name_in(kRest, entry.rest);
  if (entry.clip != PlanEntry().clip) out["clip"] = entry.clip;
  if (entry.phase) out["phase"] = name_in(kPhase, *entry.phase);
  if (entry.distance) out["distance"] = *entry.distance;
  return out;
}

}  // namespace

Plan parse_plan(std::string_view text, const std::string& name) {
  const Json json = parse_strict_json({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, name);
  const Field root{json, name + ": "};
  // Of another version even the names of fields may differ.
  const int64_t version = root.need("longtake_plan").whole(1, 1 << 30);
  if (version != kVersion)
    fail_file("{}: expected plan version {}, found {}; this longtake is too old for it, or the file is none of its plans", name, kVersion, version);
  root.object({"longtake_plan", "comment", "attention", "base", "geometry", "decisions"});
  Plan plan;
  if (const auto comment = root.get("comment")) plan.comment = comment->text();
  if (const auto attention = root.get("attention")) plan.attention = attention->choice(kAttention);
  if (const auto base = root.get("base")) plan.extras = base->choice(kBase);
  if (const auto geometry = root.get("geometry")) plan.geometry = geometry_of(*geometry);
  const Field decisions = root.need("decisions");
  for (size_t i = 0; i < decisions.array().size(); ++i) plan.entries.push_back(entry_of(decisions.at(i), plan.geometry));
  return plan;
}

Plan read_plan(const std::filesystem::path& path) {
  std::error_code error;
  const auto size = std::filesystem::is_regular_file(path, error) ? std::filesystem::file_size(path, error) : 0;
  if (error || !std::filesystem::is_regular_file(path, error)) fail_file("{} is no file that can be read; check the path of the plan", path.string());
  if (size > kMaxBytes) fail_file("{} has {} bytes; a plan has at most {}", path.string(), size, kMaxBytes);
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) fail_file("{} cannot be read; check its permissions", path.string());
  return parse_plan(text, path.string());
}

std::string plan_text(const Plan& plan) {
  const auto dump = [](const nlohmann::ordered_json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); };
  std::string out = fmt::format("{{\n\"longtake_plan\": {},\n", kVersion);
  if (!plan.comment.empty()) out += fmt::format("\"comment\": {},\n", dump(plan.comment));
  out += fmt::format("\"attention\": {},\n", dump(name_in(kAttention, plan.attention)));
  if (plan.extras) out += fmt::format("\"base\": {},\n", dump(name_in(kBase, plan.extras)));
  if (plan.geometry) {
    nlohmann::ordered_json g{{"plane", plan.geometry->plane}, {"steps", plan.geometry->steps}, {"branches", plan.geometry->branches}};
    for (const auto& window : plan.geometry->windows) {
      nlohmann::ordered_json w{{"frames", window.frames}};
      if (window.prefix > 0) w["prefix"] = window.prefix;
      g["windows"].push_back(std::move(w));
    }
    out += fmt::format("\"geometry\": {},\n", dump(g));
  }
  out += "\"decisions\": [\n";
  for (size_t i = 0; i < plan.entries.size(); ++i) out += dump(json_of(plan.entries[i])) + (i + 1 < plan.entries.size() ? ",\n" : "\n");
  return out + "]\n}\n";
}

void write_plan(const std::filesystem::path& path, const Plan& plan) { write_whole_file(path, plan_text(plan)); }

}  // namespace longtake
