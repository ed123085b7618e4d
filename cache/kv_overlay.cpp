#include "cache/kv_overlay.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"

namespace longtake {
namespace {

struct Piece {
  const KvLayer* store;  // null: rows of the call
  int64_t begin, end;    // tokens
  int64_t row;           // first row in the store or the call

  bool continued_by(const Piece& next) const {
    return store == next.store && end == next.begin && row + (end - begin) == next.row;
  }
};

std::vector<Piece> cut(const KvLayer* store, TokenRange tokens, std::span<const FreshRows> fresh) {
  std::vector<Piece> pieces;
  const auto add = [&](Piece piece) {
    if (piece.begin == piece.end) return;
    if (!pieces.empty() && pieces.back().continued_by(piece))
      pieces.back().end = piece.end;
    else
      pieces.push_back(piece);
  };
  const auto add_stored = [&](int64_t begin, int64_t end) {
    if (begin == end) return;
    LONGTAKE_CHECK(store, "expected keys of tokens [{}, {}), which nothing stores and the call does not compute", begin,
                   end);
    if (pieces.empty()) begin = std::clamp(store->first, begin, end);
    LONGTAKE_CHECK(begin == end || (store->first <= begin && end <= store->end()),
                   "expected stored keys of tokens [{}, {}), found [{}, {})", begin, end, store->first, store->end());
    add({store, begin, end, begin - store->first});
  };
  int64_t at = tokens.begin;
  for (const FreshRows& f : fresh) {
    const int64_t begin = std::max(f.token, at), end = std::min(f.token + f.count, tokens.end);
    if (begin >= end) continue;
    add_stored(at, begin);
    add({nullptr, begin, end, f.row + (begin - f.token)});
    at = end;
  }
  add_stored(at, std::max(at, tokens.end));
  return pieces;
}

}  // namespace

KvLayer overlay(const KvLayer* store, TokenRange tokens, std::span<const FreshRows> fresh, const at::Tensor& keys,
                const at::Tensor& values) {
  const std::vector<Piece> pieces = cut(store, tokens, fresh);
  LONGTAKE_CHECK(!pieces.empty(), "expected keys in [{}, {})", tokens.begin, tokens.end);
  const bool biased = store && store->bias.defined();
  std::vector<at::Tensor> k, v, bias;
  for (const Piece& p : pieces) {
    const int64_t count = p.end - p.begin;
    k.push_back((p.store ? p.store->k : keys).narrow(0, p.row, count));
    v.push_back((p.store ? p.store->v : values).narrow(0, p.row, count));
    if (biased)
      bias.push_back(p.store ? p.store->bias.narrow(0, p.row, count) : at::zeros({count}, store->bias.options()));
  }
  const auto joined = [](const std::vector<at::Tensor>& parts) {
    return parts.size() == 1 ? parts[0] : at::cat(parts);
  };
  return {joined(k), joined(v), biased ? joined(bias) : at::Tensor(), pieces.front().begin};
}

}  // namespace longtake
