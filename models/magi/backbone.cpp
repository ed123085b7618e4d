#include "models/magi/backbone.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "attention/attend.h"
#include "attention/flash.h"
#include "attention/planned_attention.h"
#include "base/error.h"
#include "base/op_scope.h"
#include "cache/kv_overlay.h"

namespace longtake::magi {

TextKv prepare_text(const Transformer& transformer, const at::Tensor& caption) {
  TextKv out;
  out.length = caption.size(0);
  const at::Tensor text = transformer.text_embed(caption.to(transformer.device()));
  for (int64_t i = 0; i < transformer.config().layers; ++i) out.layers.push_back(transformer.text_kv(i, text));
  return out;
}

MagiBackbone::MagiBackbone(const Transformer& transformer, std::vector<Branch> branches, const TextKv& null_text,
                           WindowGeometry geometry, PlannedAttention* attention)
    : transformer_(transformer), branches_(std::move(branches)), null_text_(null_text), geometry_(std::move(geometry)), attention_(attention) {
  for (const Branch& branch : branches_)
    LONGTAKE_CHECK(branch.texts.size() == geometry_.chunks.size(), "expected a text for each of {} chunks, found {}",
                   geometry_.chunks.size(), branch.texts.size());
  const int64_t gh = geometry_.latent_height / 2, gw = geometry_.latent_width / 2;
  geometry_.plane = gh * gw;
  rotations_ = transformer.rotations(0, geometry_.frames(), gh, gw);
}

KvShape MagiBackbone::kv_shape() const {
  const ModelConfig& c = transformer_.config();
  int64_t stores = 0;
  for (const Branch& branch : branches_) stores = std::max<int64_t>({stores, branch.store + 1, branch.own + 1});
  return {c.layers, stores, geometry_.tokens(), c.kv_heads, c.head_width};
}

at::Tensor MagiBackbone::embed(const at::Tensor& latents) const {
  return transformer_.patch_embed(latents.to(transformer_.device()));
}

// All items of a call behind one another.
struct MagiBackbone::Packed {
  struct Item {
    int64_t begin, rows;  // of the packed tokens
    int64_t token;        // of the video, where its chunk starts
    const TextKv* text;
  };
  std::vector<Item> items;
  std::vector<int64_t> rows;                  // of each item
  // By branch: the chunks that it computes and does not store, ascending. Rows are those of the call, or of the branch's own store as if that
  // began with the video.
  std::vector<std::vector<FreshRows>> fresh;
  at::Tensor x, rotations, condition;
};

MagiBackbone::Packed MagiBackbone::pack(std::span<const WorkItem> items, std::span<const at::Tensor> inputs) const {
  Packed p;
  p.fresh.resize(branches_.size());
  std::vector<at::Tensor> x, rotations;
  std::vector<double> timesteps, step_sizes;
  std::vector<int64_t> null_text;
  int64_t total = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const WorkItem& item = items[i];
    const Branch& branch = branches_.at(item.branch);
    const int64_t frames = geometry_.chunks.at(item.chunk).frames, plane = geometry_.plane,
                  start = geometry_.start(item.chunk);
    const int64_t rows = item.tokens.count(frames, plane);
    LONGTAKE_CHECK(inputs[i].size(0) == frames * plane, "expected {} tokens of chunk {}, found {}", frames * plane,
                   item.chunk, inputs[i].size(0));
    LONGTAKE_CHECK(rows > 0 && static_cast<int64_t>(item.timesteps.size()) == frames &&
                       std::adjacent_find(item.timesteps.begin(), item.timesteps.end(), std::not_equal_to<>()) ==
                           item.timesteps.end(),
                   "expected a token set that is not empty and one timestep for all {} frames of chunk {}", frames,
                   item.chunk);
    LONGTAKE_CHECK(transformer_.distilled() == (item.step_size > 0), "expected {} step size for chunk {}, found {}",
                   transformer_.distilled() ? "a" : "no", item.chunk, item.step_size);
    LONGTAKE_CHECK(branch.store >= 0 || !item.writes_kv,
                   "expected an item that does not write: branch {} stores nothing", item.branch);
    LONGTAKE_CHECK(item.writes_kv || item.tokens.is_all() || branch.own >= 0,
                   "expected all tokens of chunk {}, whose keys are not stored", item.chunk);
    for (size_t j = 0; j < i; ++j)
      LONGTAKE_CHECK(items[j].branch != item.branch || items[j].chunk != item.chunk,
                     "expected chunk {} once in branch {}", item.chunk, item.branch);
    const at::Tensor positions = rotations_.narrow(0, geometry_.position(item.chunk), frames * plane);
    if (item.tokens.is_all()) {
      x.push_back(inputs[i]);
      rotations.push_back(positions);
    } else {
      const at::Tensor index = item.tokens.indices(frames, plane, inputs[i].device());
      x.push_back(inputs[i].index_select(0, index));
      rotations.push_back(positions.index_select(0, index));
    }
    if (!item.writes_kv) p.fresh[item.branch].push_back({start, frames * plane, branch.own < 0 ? total : start});
    p.items.push_back({total, rows, start, item.finished ? &null_text_ : branch.texts[item.chunk]});
    p.rows.push_back(rows);
    timesteps.push_back(item.timesteps.front());
    step_sizes.push_back(item.step_size);
    null_text.push_back(branch.null_text);
    total += rows;
  }
  for (auto& fresh : p.fresh)
    std::sort(fresh.begin(), fresh.end(), [](const FreshRows& a, const FreshRows& b) { return a.token < b.token; });
  p.x = at::cat(x);
  p.rotations = at::cat(rotations);
  const auto f32 = at::TensorOptions().dtype(at::kFloat);
  p.condition = transformer_.condition()(at::tensor(timesteps, f32),
                                         transformer_.distilled() ? at::tensor(step_sizes, f32) : at::Tensor(),
                                         at::tensor(null_text, at::TensorOptions().dtype(at::kLong)));
  return p;
}

namespace {

// What an item of `branch` attends to: the keys of its store, and over them those that the call computes without writing them there.
KvLayer seen_keys(const Branch& branch, KeyRange tokens, std::vector<FreshRows> fresh, const KvCache& kv, int64_t layer, const at::Tensor& k,
                  const at::Tensor& v) {
  const KvLayer* store = branch.store < 0 ? nullptr : &kv.layer(layer, branch.store);
  if (branch.own < 0) return overlay(store, {tokens.begin, tokens.end}, fresh, k, v);
  const KvLayer& own = kv.layer(layer, branch.own);
  for (FreshRows& rows : fresh) rows.row -= own.first;
  return overlay(store, {tokens.begin, tokens.end}, fresh, own.k, own.v);
}

}  // namespace

at::Tensor MagiBackbone::attended(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& bias, bool whole) const {
  if (!attention_) return attend(q, k, v, {0, k.size(0)}, bias);
  const Sequence exact{q, k, v, bias};
  if (attention_->joins({&exact, 1})) return flash_attend({&exact, 1}).front();
  const int64_t rows = q.size(0), more = whole ? 0 : padded(rows) - rows;  // whole chunks have few counts
  const Sequence sequence{more == 0 ? q : at::constant_pad_nd(q, {0, 0, 0, 0, 0, more}), k, v, bias};
  return attention_->together({&sequence, 1}).front().narrow(0, 0, rows);
}

std::vector<at::Tensor> MagiBackbone::forward(std::span<const WorkItem> items, std::span<const at::Tensor> inputs,
                                              KvCache& kv) const {
  LONGTAKE_CHECK(items.size() == inputs.size() && !items.empty(), "expected one input an item, found {} and {}",
                 items.size(), inputs.size());
  const Packed p = pack(items, inputs);
  const auto joined = [](const std::vector<at::Tensor>& parts) {
    return parts.size() == 1 ? parts[0] : at::cat(parts);
  };
  // Neighbours for which `same` holds are one attention call: f(first item, first row, rows, whether they are whole chunks).
  const auto by_runs = [&](const auto& same, const auto& f) {
    for (size_t i = 0, end; i < items.size(); i = end) {
      bool whole = items[i].tokens.is_all();
      for (end = i + 1; end < items.size() && same(i, end); ++end) whole = whole && items[end].tokens.is_all();
      f(i, p.items[i].begin, p.items[end - 1].begin + p.items[end - 1].rows - p.items[i].begin, whole);
    }
  };
  const double dim = static_cast<double>(transformer_.config().dim);
  const auto attention_cost = [&](int64_t rows, int64_t keys) { return OpCost{4 * static_cast<double>(rows) * static_cast<double>(keys) * dim, 0}; };
  at::Tensor x = p.x;
  for (int64_t layer = 0; layer < transformer_.config().layers; ++layer) {
    const SelfAttention self = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
      for (size_t i = 0; i < items.size(); ++i) {
        const Branch& branch = branches_[items[i].branch];
        if (const int store = items[i].writes_kv ? branch.store : branch.own; store >= 0)
          kv.layer(layer, store)
              .write(p.items[i].token, geometry_.chunks[items[i].chunk].frames, geometry_.plane, items[i].tokens,
                     k.narrow(0, p.items[i].begin, p.items[i].rows), v.narrow(0, p.items[i].begin, p.items[i].rows));
      }
      std::vector<at::Tensor> out;
      by_runs([&](size_t a, size_t b) { return items[a].branch == items[b].branch && items[a].keys == items[b].keys; },
              [&](size_t i, int64_t begin, int64_t rows, bool whole) {
                const WorkItem& item = items[i];
                const KvLayer seen = seen_keys(branches_[item.branch], item.keys, p.fresh[item.branch], kv, layer, k, v);
                const OpScope scope("attention", attention_cost(rows, seen.k.size(0)));
                out.push_back(attended(q.narrow(0, begin, rows), seen.k, seen.v, seen.bias, whole));
              });
      for (int64_t store = 0; kv.on_queries && store < kv.shape().branches; ++store)
        for (size_t i = items.size(); i-- > 0;)
          if (items[i].writes_kv && branches_[items[i].branch].store == store) {
            kv.on_queries(layer, static_cast<int>(store), q.narrow(0, p.items[i].begin, p.items[i].rows));
            break;
          }
      return joined(out);
    };
    const CrossAttention cross = [&](const at::Tensor& q) {
      std::vector<at::Tensor> out;
      by_runs([&](size_t a, size_t b) { return p.items[a].text == p.items[b].text; },
              [&](size_t i, int64_t begin, int64_t rows, bool whole) {
                const auto& [k, v] = p.items[i].text->layers.at(layer);
                const at::Tensor queries = q.narrow(0, begin, rows);
                const OpScope scope("attention on text", attention_cost(rows, k.size(0)));
                out.push_back(k.size(0) == 0 ? at::zeros_like(queries) : attended(queries, k, v, {}, whole));
              });
      return joined(out);
    };
    x = transformer_.block(layer, x, p.condition, p.rows, p.rotations, self, cross);
  }
  return x.split_with_sizes(p.rows);
}

at::Tensor MagiBackbone::head(const at::Tensor& hidden, std::span<const double>) const {
  return transformer_.head(hidden, geometry_.latent_height / 2, geometry_.latent_width / 2);
}

at::Tensor MagiBackbone::step_embedding(double timestep) const {
  return transformer_.condition().embed(at::full({1}, timestep, at::kFloat)).flatten().cpu();
}

double MagiBackbone::flops(int64_t tokens, int64_t keys) const {
  return transformer_flops(transformer_.config(), tokens, keys, branches_.at(0).texts.at(0)->length);
}

double transformer_flops(const ModelConfig& c, int64_t tokens, int64_t keys, int64_t text_length) {
  const double D = static_cast<double>(c.dim), F = static_cast<double>(c.ffn_dim);
  const double kv = static_cast<double>(c.kv_heads * c.head_width);
  const double linear =
      2 * (2 * D * D + 2 * kv * D + 2 * D * D + (c.gated_mlp ? 3 : 2) * D * F);  // q qx, k v, the joint, MLP
  const double attention = 4 * D * (static_cast<double>(keys) + static_cast<double>(text_length));
  return static_cast<double>(c.layers) * static_cast<double>(tokens) * (linear + attention);
}

}  // namespace longtake::magi
