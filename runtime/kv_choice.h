// From the text form of a K/V compression (--kv) to its settings: full, stream:N, r1kv[:KEY=VALUE...], merge[:KEY=VALUE...].
#pragma once

#include <memory>
#include <string>
#include <variant>

#include "cache/kv_compress.h"
#include "cache/policy.h"

namespace longtake {

// No compression.
struct FullKvSettings {
  std::vector<SettingKey> keys() { return {}; }
  std::unique_ptr<KvCompressor> make(const KvChunks&) const { return nullptr; }
};

struct KvChoice {
  std::string text = "full";  // as it was given
  std::variant<FullKvSettings, StreamKvSettings, R1KvSettings, MergeKvSettings> settings;

  bool compresses() const { return !std::holds_alternative<FullKvSettings>(settings); }
  // Tokens of finished chunks that stay, at most, of `finished`; what has just finished comes on top where compression follows later.
  int64_t kept_tokens(int64_t finished, int64_t chunk_tokens) const;
};

// Errors: usage for unknown names and keys (with the nearest), and for compression with full attention, which computes all chunks of the
// window in every row and so has no finished ones.
KvChoice choose_kv(const std::string& text, AttentionScheme attention);

// Null for full.
std::unique_ptr<KvCompressor> make_kv(const KvChoice& choice, const KvChunks& chunks);

// Every compression with its keys and their defaults, for help.
std::string describe_kv();

}  // namespace longtake
