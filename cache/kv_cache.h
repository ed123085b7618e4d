// Keys and values of one window: per layer and branch, all tokens in place. Chunks write their rows and read a range.
//
// A layer may hold fewer rows than the window has tokens: chunks that have not started need none yet, and those of finished chunks may be
// compressed (kv_compress.h). Compressed rows stand right before the chunks that still change, so that keys stay one range.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "cache/state.h"
#include "cache/token_set.h"

namespace longtake {

// Tokens [begin, end) of the window.
struct TokenRange {
  int64_t begin = 0, end = 0;
  bool operator==(const TokenRange&) const = default;
};

struct KvLayer {
  at::Tensor k, v;    // [rows, kv_heads, head_width]; k after normalisation and rotation; row 0 is token `first` of the window
  at::Tensor bias;    // [rows] float32, added to every logit of a key; undefined where all are 0
  int64_t first = 0;
  // Where k and v are e4m3: v holds values / v_scale, saturating. [1] float32; undefined otherwise.
  at::Tensor v_scale{};
  bool v_scale_known = false;  // it was given or loaded; rows may be written
  // Where k and v lie, where room was reserved for more rows than they have.
  at::Tensor k_room{}, v_room{};

  bool in_fp8() const { return v_scale.defined(); }
  // Settles v_scale by the largest magnitude among `values` (any shape), on the device and without waiting for it, with room for values
  // up to kValueRoom times as large. Once only: rows that are stored hold their meaning by it, so later values may saturate.
  void settle_v_scale(const at::Tensor& values);
  // A chunk's first pass sees pure noise, later passes and chunks other values. e4m3 keeps its 4 significant bits over a range of 2^14.8, so
  // that room costs nothing until values are 7000 / kValueRoom times smaller than the largest.
  static constexpr double kValueRoom = 4;

  // Not in fp8. Writes the rows of one chunk that starts at token `start` and has `frames` x `plane` tokens;
  // `keys` and `values` [count, kv_heads, head_width] belong to the tokens of `set` in ascending order.
  void write(int64_t start, int64_t frames, int64_t plane, const TokenSet& set, const at::Tensor& keys,
             const at::Tensor& values);

  int64_t end() const { return first + k.size(0); }
  // Which rows stand for these tokens; what is not held is left out.
  TokenRange rows(TokenRange tokens) const;

  // Makes room for as many rows: k and v then come and go in place, and take no other memory unless they outgrow it.
  void reserve(int64_t rows);
  // Holds the tokens of the range from now on: drops others, adds zero rows.
  void hold(TokenRange tokens);
  // Everything before token `end` becomes these rows [n, kv_heads, head_width], with a bias [n] or none.
  void replace_before(int64_t end, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& bias = {});

  int64_t bytes() const;
};

struct KvShape {
  int64_t layers = 0, branches = 0, tokens = 0, kv_heads = 0, head_width = 0;
  std::vector<bool> fp8{};  // by layer: keys and values in e4m3; empty for none
  bool in_fp8(int64_t layer) const { return !fp8.empty() && fp8.at(layer); }
  // With `dtype` for the layers that are not in fp8.
  int64_t bytes(at::ScalarType dtype) const;
};

class KvCache {
 public:
  // Zero-initialised: a row that was never written contributes a zero key rather than garbage. Holds all tokens, or those given.
  // `dtype` is that of layers that are not in fp8.
  KvCache(const KvShape& shape, at::ScalarType dtype, const at::Device& device, std::optional<TokenRange> held = {});

  KvLayer& layer(int64_t layer, int64_t branch) { return layers_.at(layer * shape_.branches + branch); }
  const KvLayer& layer(int64_t layer, int64_t branch) const { return layers_.at(layer * shape_.branches + branch); }
  const KvShape& shape() const { return shape_; }

  // All rows of all layers and branches, "kv/LAYER/BRANCH/k" and ".../v" (in fp8 also ".../v_scale"); loading keeps this cache's dtype and device.
  // A cache that was made to hold a part of the tokens also keeps which, as ".../held" (first token, end), and ".../bias" where there is one.
  void save(State& state) const;
  void load(const State& state);

  // Whether layer 0 is known to hold the same in all branches. Nothing before it knows the text, so it does from the beginning on until a
  // SkyReels-V2 row computes other tokens in one branch than in another; such rows say so, as must whoever else writes there. Part of the state.
  // Never of a cache that holds a part of the tokens: compression may choose by branch.
  bool branches_agree() const { return branches_agree_ && !in_parts_; }
  void branches_differ() { branches_agree_ = false; }

  // KvLayer::reserve() for every layer.
  void reserve(int64_t rows);
  // Makes every layer hold the tokens up to `end` too.
  void grow(int64_t end);
  // KvLayer::hold() for every layer.
  void hold(TokenRange tokens);

  int64_t bytes() const;                // of the rows held
  double mean_first(int branch) const;  // over the layers

  // While it is set, a forward pass hands over the queries [n, heads, head_width] of each branch's last item, layer by layer, when
  // nothing of the pass reads that layer any more: it may be changed.
  std::function<void(int64_t layer, int branch, const at::Tensor& queries)> on_queries;

 private:
  void load_part(const State& state, const std::string& name, KvLayer& layer) const;

  KvShape shape_;
  bool branches_agree_ = true;
  bool in_parts_;  // made to hold a part of the tokens, which changes as the window goes on
  std::vector<KvLayer> layers_;
};

}  // namespace longtake
