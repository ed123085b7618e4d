#include "runtime/kv_choice.h"

#include <fmt/ranges.h>


#include "base/error.h"
#include "base/suggest.h"
#include "runtime/policy_spec.h"

namespace longtake {
namespace {

struct KvEntry {
  std::string name, summary;
  decltype(KvChoice::settings) settings;
};

const std::vector<KvEntry>& registry() {
  static const std::vector<KvEntry> entries{
      {"full", "all keys and values of finished chunks are kept", FullKvSettings{}},
      {"stream:N", "chunks attend to the last N finished chunks alone", StreamKvSettings{}},
      {"r1kv", "finished chunks keep their most important and least redundant tokens", R1KvSettings{}},
      {"merge", "keys of one position that hardly change in time become one", MergeKvSettings{}}};
  return entries;
}

std::string base_name(const KvEntry& entry) { return entry.name.substr(0, entry.name.find(':')); }

}  // namespace

int64_t KvChoice::kept_tokens(int64_t finished, int64_t chunk_tokens) const {
  const auto at_most = [&](double chunks) {
    return std::min(finished, static_cast<int64_t>(std::ceil(chunks * static_cast<double>(chunk_tokens))));
  };
  if (const auto* stream = std::get_if<StreamKvSettings>(&settings)) return at_most(stream->chunks);
  if (const auto* r1kv = std::get_if<R1KvSettings>(&settings)) return at_most(r1kv->budget + 1);
  return finished;
}

KvChoice choose_kv(const std::string& text, AttentionScheme attention) {
  const PolicySpec spec = parse_policy(text, "--kv");
  std::vector<std::string> names;
  const KvEntry* found = nullptr;
  for (const KvEntry& entry : registry()) {
    names.push_back(base_name(entry));
    if (base_name(entry) == spec.name) found = &entry;
  }
  if (found == nullptr)
    fail_usage("there is no K/V compression '{}'{}; --kv takes {}", spec.name, did_you_mean(spec.name, names), fmt::join(names, ", "));
  KvChoice choice{text, found->settings};
  if (auto* stream = std::get_if<StreamKvSettings>(&choice.settings)) {
    if (!whole_key("", stream->chunks, 0, 1'000'000, "").set(spec.preset))
      fail_usage("--kv stream needs a whole number of chunks, such as stream:2, found '{}'", text);
  } else if (!spec.preset.empty()) {
    fail_usage("--kv {} takes KEY=VALUE, found '{}'", spec.name, spec.preset);
  }
  const std::vector<SettingKey> keys = std::visit([](auto& settings) { return settings.keys(); }, choice.settings);
  for (const auto& [key, value] : spec.values) set_key("--kv " + spec.name, keys, key, value);
  if (choice.compresses() && attention == AttentionScheme::window)
    fail_usage("--kv {} compresses finished chunks, and with full attention (policies none and teacache:base=none) every row computes them "
               "again; take causal chunks, such as --policy causal, or --kv full", text);
  return choice;
}

std::unique_ptr<KvCompressor> make_kv(const KvChoice& choice, const KvChunks& chunks) {
  return std::visit([&](const auto& settings) { return settings.make(chunks); }, choice.settings);
}

std::string describe_kv() {
  std::string out;
  for (KvEntry entry : registry()) {
    out += fmt::format("{:<12} {}\n", entry.name, entry.summary);
    for (const SettingKey& key : std::visit([](auto& settings) { return settings.keys(); }, entry.settings))
      out += fmt::format("{:12} {:<12} {} [{}; default: {}]\n", "", key.name, key.help, key.expects, key.text());
  }
  return out;
}

}  // namespace longtake
