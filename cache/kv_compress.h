// Compression of the keys and values of finished chunks, which nothing writes any more but all later chunks attend to. Only for causal
// chunks. Each method rewrites the finished part of a layer; the chunks that still change stay as they are.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cache/kv_cache.h"
#include "cache/setting_keys.h"

namespace longtake {

// The window's chunks in tokens.
struct KvChunks {
  std::vector<int64_t> bounds;  // chunk c has the tokens [bounds[c], bounds[c + 1])
  int64_t plane = 0;            // tokens of one latent frame

  // Of a whole chunk: the largest. The first and the last may be shorter.
  int64_t chunk_tokens() const {
    int64_t most = 0;
    for (size_t c = 1; c < bounds.size(); ++c) most = std::max(most, bounds[c] - bounds[c - 1]);
    return most;
  }
};

class KvCompressor {
 public:
  virtual ~KvCompressor() = default;

  // After a row: the first `finished` chunks are finished. Called with a rising count; may compress at once.
  virtual void finish(KvCache& kv, int finished) = 0;
  // Whether the next forward pass should hand its queries over (KvCache::on_queries).
  virtual bool wants_queries() const { return false; }
  virtual void queries(KvCache& /*kv*/, int64_t /*layer*/, int /*branch*/, const at::Tensor& /*queries*/) {}

  // What the keys and values and the number of finished chunks do not tell, under names that begin with "kv/". load() comes once, before
  // anything else, when `kv` is loaded and holds all tokens of unfinished chunks that were ever written; `finished` is what finish() saw last.
  virtual void save(State& /*state*/) const {}
  virtual void load(const State& /*state*/, KvCache& kv, int finished) { finish(kv, finished); }
};

// Attends to the last few finished chunks and the active ones, as StreamingLLM and FlowCache's key range do (spec: motioncache.md
// section 3).
struct StreamKvSettings {
  int chunks = 1;
  std::vector<SettingKey> keys() { return {}; }
  std::unique_ptr<KvCompressor> make(const KvChunks& chunks) const;
};

// R1-KV as FlowCache uses it (arXiv 2602.10825; spec: motioncache.md section 3): per layer and K/V head, finished chunks shrink to a
// budget of tokens. A token's score is mix * importance - (1 - mix) * redundancy: importance is its softmax weight under the queries of
// the chunk that was forwarded last (largest over the query heads that share it, mean over queries, largest among its neighbours in
// `pool`); redundancy is the softmax over tokens of the mean cosine to the other keys. Happens in the first forward pass after a chunk
// has finished, behind that pass's own attention.
enum class KvQueries { frame, tail, all };  // the chunk's last latent frame, its last 50 tokens, all of them
struct R1KvSettings {
  double budget = 2;      // in chunks
  double mix = 0.07;
  int pool = 7;           // odd
  bool per_head = true;   // each head keeps its own tokens; else all heads the same, by mean score
  KvQueries queries = KvQueries::frame;

  std::vector<SettingKey> keys();
  std::unique_ptr<KvCompressor> make(const KvChunks& chunks) const;
};

// Merging in time, after TempCache in FAST-AR (arXiv 2602.01801; spec: other_policies.md): where the keys of one spatial position in
// neighbouring latent frames lie within cosine distance d of each other in every head, they become one: mean key, mean value, and
// log(count) added to its logits. For equal keys that is exact: n of them with values v_i weigh n exp(l) mean(v).
// Keys are compared as attention sees them, rotated by their frame's position.
struct MergeKvSettings {
  double distance = 0.05;  // from the mean key of the run so far; 0 merges keys that are equal up to rounding (1e-6)

  std::vector<SettingKey> keys();
  std::unique_ptr<KvCompressor> make(const KvChunks& chunks) const;
};

}  // namespace longtake
