#include "models/skyreels/fused_row.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <limits>

#include "attention/attend.h"
#include "attention/flash.h"
#include "attention/qkv_rows.h"
#include "base/error.h"
#include "base/op_scope.h"
#include "base/upload.h"
#include "models/ops/residual_norm.h"
#include "quant/fp8.h"

namespace longtake::skyreels {
namespace {

OpCost product_cost(int64_t rows, const Linear& layer) {
  return {2.0 * static_cast<double>(rows) * static_cast<double>(layer.weight.numel()), 0};
}
// Of sequences of one shape.
OpCost attention_cost(size_t sequences, int64_t rows, int64_t keys, int64_t dim) {
  return {4.0 * static_cast<double>(sequences) * static_cast<double>(rows) * static_cast<double>(keys) * static_cast<double>(dim), 0};
}
// Of passes over rows of `values` numbers that read and write so many bytes a number.
OpCost rows_cost(int64_t values, double bytes) { return {0, static_cast<double>(values) * bytes}; }
// Queries with those that lie behind them, up to a multiple.
std::vector<Sequence> with_padding(std::span<const Sequence> sequences, int64_t multiple) {
  std::vector<Sequence> padded_ones(sequences.begin(), sequences.end());
  for (Sequence& s : padded_ones) {
    std::vector<int64_t> sizes = s.q.sizes().vec();
    sizes[0] = padded(sizes[0], multiple);
    s.q = s.q.as_strided(sizes, s.q.strides());
  }
  return padded_ones;
}
std::vector<int64_t> rows_of(std::span<const RowLayout::Run> runs) {
  std::vector<int64_t> rows;
  for (const RowLayout::Run& run : runs) rows.push_back(run.rows);
  return rows;
}
const char* named(bool fp8, const char* wide, const char* narrow) { return fp8 ? narrow : wide; }

}  // namespace

// The row's tokens and what is known of each of them, and buffers that all layers share.
struct FusedRow::Batch {
  RowLayout layout;
  std::vector<std::vector<RowLayout::Run>>
      attention{};  // runs of equal rows and keys in different branches, to be called together

  // [rows] int32 on the device:
  at::Tensor position{};   // which of the rotations
  at::Tensor store_row{};  // token of the window, or -1 where its item does not write keys and values
  at::Tensor vector{};     // which of the distinct timesteps

  at::Tensor modulation{};  // [layers, distinct timesteps, 6, D] float32

  at::Tensor z{};        // [rows, D] float32: the residual stream
  at::Tensor u{};        // [rows, D]: normalised input of a product, at last the result
  Fp8Rows rounded{};     // the same for a product in fp8; undefined where there is none
  bool is_rounded = false;  // which of both holds the present input
  at::Tensor qkv{};      // [rows, 3 D], the same memory as ffn and attention's results of a whole row
  at::Tensor ffn{};      // [rows / pieces, ffn_dim]: the feed-forward part takes so many rows at a time
  at::Tensor y{};        // [rows, D]: what is added to z next; the same memory as queries where that can be

  // out = the present input through `layer`.
  void multiply(at::Tensor& out, const Linear& layer) const { is_rounded ? layer.into(out, rounded) : layer.into(out, u); }

  // With a place for each branch, `place_rows` behind that of the branch before it. That is the same in every row of a window, because
  // cuDNN's plans hold it, and keeps every branch's first element aligned. Calls for padded rows read past the last one.
  int64_t place_rows = 0;
  at::Tensor queries{};      // [branches * place_rows + kCoarseMultiple, heads, head_width]; of the text: packed, without places
  at::Tensor queries_fp8{};  // the same in e4m3, for layers in fp8
  at::Tensor scales{};       // [branches * place_rows] float32: of attention's results, one value in all of a branch's place

  struct Place {
    int64_t begin;  // of the branch's place
    int64_t row;    // where the run's queries begin
  };
  Place place_of(const RowLayout::Run& run) const {
    for (size_t i = 0; i < layout.branches.size(); ++i) {
      const int64_t begin = static_cast<int64_t>(i) * place_rows;
      if (layout.branches[i].branch == run.branch) return {begin, begin + run.begin - layout.branches[i].begin};
    }
    fail(ExitCode::internal, "expected a run of one of the row's branches, found branch {}", run.branch);
  }

  // Whether y can lie where the queries do: a run's result is written when it has attended, and must not cover the queries of runs that come
  // later. In order they never meet, because a place lies no earlier than its rows of y; but a run that is called together with another
  // branch's goes ahead of runs of its own branch that found no partner.
  bool y_spares_queries() const {
    for (size_t i = 0; i < attention.size(); ++i)
      for (const RowLayout::Run& run : attention[i])
        for (size_t j = i + 1; j < attention.size(); ++j)
          for (const RowLayout::Run& later : attention[j]) {
            const int64_t row = place_of(later).row;
            if (run.begin < row + later.rows && row < run.begin + run.rows) return false;
          }
    return true;
  }
};

FusedRow::FusedRow(const Transformer& transformer, const Texts& texts, const WindowGeometry& geometry,
                   const at::Tensor& rotations, int fps_index, PlannedAttention* attention)
    : transformer_(transformer), texts_(texts), geometry_(geometry), rotations_(rotations), fps_index_(fps_index),
      attention_(attention) {
  LONGTAKE_CHECK(transformer.merged(), "expected a transformer with merged projections");
  for (int64_t i = 0; i < transformer.config().layers; ++i) {
    const Transformer::Block& block = transformer.layer(i);
    for (const Linear* product : {&block.self_qkv, &block.cross.q, &block.ffn_in}) rounds_ = rounds_ || product->takes_rounded();
  }
}

FusedRow::Batch FusedRow::pack(std::span<const WorkItem> items, std::span<const at::Tensor> inputs, const KvCache& kv) const {
  const TransformerConfig& c = transformer_.config();
  const at::Device device = transformer_.device();
  const int64_t plane = geometry_.plane;
  Batch batch{RowLayout(items, inputs, geometry_)};
  const int64_t rows = batch.layout.rows;

  for (const RowLayout::Run& run : batch.layout.self) {
    const auto match = [&](const std::vector<RowLayout::Run>& group) {
      return group.size() == 1 && group[0].branch != run.branch && group[0].rows == run.rows &&
             group[0].keys == run.keys;
    };
    const auto group = std::find_if(batch.attention.begin(), batch.attention.end(), match);
    if (group == batch.attention.end())
      batch.attention.push_back({run});
    else
      group->push_back(run);
  }

  std::vector<double> timesteps;
  for (const WorkItem& item : items) timesteps.insert(timesteps.end(), item.timesteps.begin(), item.timesteps.end());
  const DistinctTimesteps distinct(timesteps);
  const at::Tensor vector_of_frame = upload(at::tensor(distinct.index, at::TensorOptions().dtype(at::kLong)), device);
  const at::Tensor values = upload(at::tensor(distinct.values, at::TensorOptions().dtype(at::kDouble)), device);
  batch.modulation = transformer_.modulations().unsqueeze(1) + transformer_.time_embed(values, fps_index_).E;

  const auto typed = at::TensorOptions().dtype(transformer_.dtype()).device(device);
  batch.z = at::empty({rows, c.dim}, typed.dtype(at::kFloat));
  std::vector<at::Tensor> position, store_row, vector;
  int64_t row = 0, frame = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const WorkItem& item = items[i];
    const int64_t frames = geometry_.chunks[item.chunk].frames, count = batch.layout.rows_of_item[i];
    const at::Tensor index = item.tokens.indices(frames, plane, device);
    position.push_back((index + geometry_.position(item.chunk)).to(at::kInt));
    const at::Tensor token = (index + geometry_.start(item.chunk)).to(at::kInt);
    store_row.push_back(item.writes_kv ? token : at::full_like(token, -1));
    vector.push_back(vector_of_frame.narrow(0, frame, frames).index_select(0, index.div(plane, "floor")).to(at::kInt));
    batch.z.narrow(0, row, count).copy_(item.tokens.is_all() ? inputs[i] : inputs[i].index_select(0, index));
    row += count;
    frame += frames;
  }
  batch.position = at::cat(position);
  batch.store_row = at::cat(store_row);
  batch.vector = at::cat(vector);

  batch.u = at::empty({rows, c.dim}, typed);
  if (rounds_)
    batch.rounded = {at::empty({rows, c.dim}, typed.dtype(at::kFloat8_e4m3fn)), at::empty({rows}, typed.dtype(at::kFloat))};
  batch.place_rows = padded(geometry_.tokens());
  const int64_t placed = static_cast<int64_t>(batch.layout.branches.size()) * batch.place_rows;
  batch.queries = at::empty({placed + kCoarseMultiple, c.heads, c.head_width()}, typed);
  // (Whoever asks for queries does so when y is written already.)
  const bool shared = !kv.on_queries && batch.y_spares_queries();
  batch.y = shared ? batch.queries.narrow(0, 0, rows).flatten(1) : at::empty({rows, c.dim}, typed);
  // The one is dead while the other lives.
  batch.qkv = at::empty({rows, 3 * c.dim}, typed);
  // Pieces of equal size, as few as fit; in multiples of 16 rows, so that scales of rows stay aligned.
  const int64_t pieces = (c.ffn_dim + 3 * c.dim - 1) / (3 * c.dim), piece = std::min(rows, padded((rows + pieces - 1) / pieces, 16));
  batch.ffn = batch.qkv.numel() >= piece * c.ffn_dim ? batch.qkv.flatten().narrow(0, 0, piece * c.ffn_dim).view({piece, c.ffn_dim})
                                                     : at::empty({piece, c.ffn_dim}, typed);
  const std::vector<bool>& fp8 = kv.shape().fp8;
  if (std::find(fp8.begin(), fp8.end(), true) != fp8.end()) {
    batch.queries_fp8 = at::empty_like(batch.queries, typed.dtype(at::kFloat8_e4m3fn));
    batch.scales = at::empty({placed}, typed.dtype(at::kFloat));
  }
  return batch;
}

std::vector<at::Tensor> FusedRow::forward(std::span<const WorkItem> items, std::span<const at::Tensor> inputs,
                                          KvCache& kv) const {
  std::optional<OpScope> packing(std::in_place, "pack the row");
  Batch b = pack(items, inputs, kv);
  b.layout.settle_branches(kv);
  packing.reset();
  const double eps = transformer_.config().eps;
  const int64_t layers = transformer_.config().layers;
  const OpCost sum_cost = rows_cost(b.layout.rows * transformer_.config().dim, 8 + 2 * static_cast<double>(c10::elementSize(b.u.scalar_type())));
  const OpCost sum_rounded_cost = rows_cost(b.layout.rows * transformer_.config().dim, 9 + static_cast<double>(c10::elementSize(b.u.scalar_type())));
  const auto modulation = [&](int64_t layer, int64_t shift, int64_t scale) {
    return RowNorm::modulation(b.modulation.select(0, layer), b.vector, shift, scale, eps);
  };
  const auto gate = [&](int64_t layer, int64_t row) {
    return RowVectors{b.modulation.select(0, layer).select(1, row), b.vector};
  };
  // The sum's norm is the input of `product`.
  const auto add_norm = [&](const RowVectors& gate, const RowNorm& norm, const Linear& product) {
    const OpScope scope("add and norm", product.takes_rounded() ? sum_rounded_cost : sum_cost);
    b.is_rounded = product.takes_rounded();
    if (b.is_rounded)
      add_and_normalize(b.rounded, b.z, b.y, gate, norm);
    else
      add_and_normalize(b.u, b.z, b.y, gate, norm);
  };

  normalize_rows(b.u, b.z, modulation(0, 0, 1));
  for (int64_t layer = 0; layer < layers; ++layer) {
    const Transformer::InUse in_use(transformer_, layer);
    const Transformer::Block& block = transformer_.layer(layer);
    project_and_store(layer, b, kv);
    self_attend(layer, b, kv);
    add_norm(gate(layer, 2), RowNorm::affine(block.norm3_weight_f32, block.norm3_bias_f32, eps), block.cross.q);
    cross_attend(layer, b);
    add_norm({}, modulation(layer, 3, 4), block.ffn_in);
    feed_forward(block, b);
    if (layer + 1 < layers)
      add_norm(gate(layer, 5), modulation(layer + 1, 0, 1), transformer_.layer(layer + 1).self_qkv);
    else
      add_rows(b.u, b.z, b.y, gate(layer, 5));
  }
  return b.u.split_with_sizes(b.layout.rows_of_item);
}

void FusedRow::feed_forward(const Transformer::Block& block, const Batch& b) const {
  const OpScope scope(named(block.ffn_in.in_fp8(), "feed forward", "feed forward fp8"),
                      {product_cost(b.layout.rows, block.ffn_in).flops + product_cost(b.layout.rows, block.ffn_out).flops});
  for (int64_t begin = 0, count; begin < b.layout.rows; begin += count) {
    count = std::min(b.ffn.size(0), b.layout.rows - begin);
    const auto piece = [&](const at::Tensor& x) { return x.narrow(0, begin, count); };
    at::Tensor y = piece(b.y), hidden = b.ffn.narrow(0, 0, count);
    if (b.is_rounded)
      feed_forward_into(y, hidden, Fp8Rows{piece(b.rounded.values), piece(b.rounded.scales)}, block.ffn_in, block.ffn_out);
    else
      feed_forward_into(y, hidden, piece(b.u), block.ffn_in, block.ffn_out);
  }
}

void FusedRow::project_and_store(int64_t layer, const Batch& b, KvCache& kv) const {
  const Transformer::Block& block = transformer_.layer(layer);
  at::Tensor qkv = b.qkv;
  {
    const OpScope scope(named(block.self_qkv.in_fp8(), "product q k v", "product q k v fp8"), product_cost(b.layout.rows, block.self_qkv));
    b.multiply(qkv, block.self_qkv);
  }
  const double width = static_cast<double>(c10::elementSize(qkv.scalar_type())), stored = kv.shape().in_fp8(layer) ? 1 : width;
  const OpScope scope("q k norm, rotation, store", rows_cost(qkv.numel(), width + stored));
  const QkNorm norm{block.self.norm_q, block.self.norm_k, rotations_, transformer_.config().eps};
  for (const RowLayout::Run& run : b.layout.branches) {
    KvLayer& layer_kv = kv.layer(layer, run.branch);
    const at::Tensor rows = b.qkv.narrow(0, run.begin, run.rows);
    const bool fp8 = layer_kv.in_fp8();
    if (fp8 && !layer_kv.v_scale_known) {
      const int64_t D = rows.size(1) / 3;
      layer_kv.settle_v_scale(rows.narrow(1, 2 * D, D));
    }
    KvRows store{layer_kv.k, layer_kv.v, b.store_row.narrow(0, run.begin, run.rows), layer_kv.first, layer_kv.v_scale};
    at::Tensor q = (fp8 ? b.queries_fp8 : b.queries).narrow(0, b.place_of(run).row, run.rows);
    qkv_rows(q, store, rows, b.position.narrow(0, run.begin, run.rows), norm);
  }
}

// [rows, heads, head_width] for results of attention, where the products of queries, keys and values lie: while attention runs, these are with
// the queries and in the store already.
at::Tensor FusedRow::packed_results(const Batch& b, at::ScalarType dtype) const {
  return b.qkv.view(dtype).flatten().narrow(0, 0, b.u.numel()).view({b.u.size(0), -1, b.queries.size(2)});
}

// Runs of equal rows and keys in different branches, or the first of them for all.
struct FusedRow::Call {
  std::span<const RowLayout::Run> runs;
  bool once = false;
  std::vector<Sequence> sequences{};
  int64_t room = std::numeric_limits<int64_t>::max();  // for keys, behind each sequence's first one
  double flops = 0;
};

std::vector<FusedRow::Call> FusedRow::attention_calls(int64_t layer, const Batch& b, KvCache& kv) const {
  std::vector<Call> calls;
  for (const auto& group : b.attention) {
    // Block 0 has seen no text yet, so where the branches' rows and keys agree, their results do. A call for one branch takes plans of its own:
    // few of them, and none for short runs, which would gain nothing.
    Call call{group, layer == 0 && kv.branches_agree() && padded(group[0].rows, kCoarseMultiple) < std::ssize(group) * padded(group[0].rows)};
    for (const RowLayout::Run& run : call.runs.first(call.once ? 1 : group.size())) {
      const KvLayer& store = kv.layer(layer, run.branch);
      const TokenRange keys = store.rows({run.keys.begin, run.keys.end});
      const at::Tensor& queries = kv.shape().in_fp8(layer) ? b.queries_fp8 : b.queries;
      call.room = std::min(call.room, store.k.size(0) - keys.begin);
      const auto held = [&](const at::Tensor& x) {
        return x.defined() ? x.narrow(0, keys.begin, keys.end - keys.begin) : x;
      };
      call.sequences.push_back({queries.narrow(0, b.place_of(run).row, run.rows), held(store.k), held(store.v), held(store.bias)});
    }
    call.flops = attention_cost(call.sequences.size(), group[0].rows, call.sequences[0].k.size(0), transformer_.config().dim).flops;
    calls.push_back(std::move(call));
  }
  return calls;
}

at::Tensor FusedRow::attend_joined(const Batch& b, std::span<const Call> calls, bool fp8) const {
  std::vector<Sequence> sequences;
  double flops = 0;
  for (const Call& call : calls) {
    sequences.insert(sequences.end(), call.sequences.begin(), call.sequences.end());
    flops += call.flops;
  }
  if (attention_ == nullptr || !attention_->joins(sequences)) return {};
  const at::Tensor packed = packed_results(b, sequences[0].q.scalar_type());
  std::vector<at::Tensor> out;
  for (const Call& call : calls)
    for (size_t i = 0; i < call.sequences.size(); ++i) out.push_back(packed.narrow(0, call.runs[i].begin, call.runs[i].rows));
  const OpScope scope(named(fp8, "attention", "attention fp8"), {flops});
  flash_attend_into(out, sequences);
  return packed;
}

void FusedRow::self_attend(int64_t layer, const Batch& b, KvCache& kv) const {
  const Linear& o = transformer_.layer(layer).self.o;
  const bool fp8 = kv.shape().in_fp8(layer);
  LONGTAKE_CHECK(!fp8 || (attention_ != nullptr && !kv.on_queries), "expected plans for attention in fp8, and nobody who asks for queries");
  if (fp8)
    for (const RowLayout::Run& run : b.layout.branches) {
      at::Tensor scales = b.scales.narrow(0, b.place_of(run).begin, run.rows);
      scales.copy_(kv.layer(layer, run.branch).v_scale);
    }
  const auto project = [&](const RowLayout::Run& run, const at::Tensor& attended) {
    const OpScope scope(named(o.in_fp8(), "product o", "product o fp8"), product_cost(run.rows, o));
    at::Tensor y = b.y.narrow(0, run.begin, run.rows);
    const at::Tensor x = attended.narrow(0, 0, run.rows).flatten(1);
    if (!fp8)
      o.into(y, x);
    else if (o.in_fp8())
      o.into(y, Fp8Rows{x, b.scales.narrow(0, b.place_of(run).begin, run.rows)});
    else
      o.into(y, x.to(y.scalar_type()).mul_(kv.layer(layer, run.branch).v_scale));
  };
  const std::vector<Call> calls = attention_calls(layer, b, kv);
  if (const at::Tensor packed = attend_joined(b, calls, fp8); packed.defined()) {
    for (const Call& call : calls)
      for (size_t i = 1; call.once && i < call.runs.size(); ++i)
        packed.narrow(0, call.runs[i].begin, call.runs[i].rows).copy_(packed.narrow(0, call.runs[0].begin, call.runs[0].rows));
    for (const RowLayout::Run& run : b.layout.branches) project(run, packed.narrow(0, run.begin, run.rows));
  } else {
    for (const Call& call : calls) {
      std::vector<at::Tensor> out;
      {
        const OpScope scope(named(fp8, "attention", "attention fp8"), {call.flops});
        const std::vector<Sequence> padded_ones = with_padding(call.sequences, call.once ? kCoarseMultiple : kQueryMultiple);
        out = attention_ ? attention_->together(padded_ones, call.room) : attend_together(padded_ones);
      }
      for (size_t i = 0; i < call.runs.size(); ++i) project(call.runs[i], out[call.once ? 0 : i]);
    }
  }
  if (!kv.on_queries) return;
  int64_t end = 0;
  size_t item = 0;
  for (const RowLayout::Run& run : b.layout.branches) {
    while (end < run.begin + run.rows) end += b.layout.rows_of_item[item++];
    const int64_t rows = b.layout.rows_of_item[item - 1];
    kv.on_queries(layer, run.branch, b.queries.narrow(0, b.place_of(run).row + run.rows - rows, rows));
  }
}

void FusedRow::cross_attend(int64_t layer, const Batch& b) const {
  const Transformer::Attention& cross = transformer_.layer(layer).cross;
  const int64_t rows = b.layout.rows;
  at::Tensor q = b.queries.narrow(0, 0, rows).flatten(1);
  {
    const OpScope scope(named(cross.q.in_fp8(), "product q of text", "product q of text fp8"), product_cost(rows, cross.q));
    b.multiply(q, cross.q);
  }
  {
    const OpScope scope("q norm of text", rows_cost(q.numel(), 2 * static_cast<double>(c10::elementSize(q.scalar_type()))));
    rms_rows(q, q, cross.norm_q, transformer_.config().eps);
  }
  const auto project = [&](int64_t begin, const at::Tensor& attended) {
    const OpScope scope(named(cross.o.in_fp8(), "product o of text", "product o of text fp8"), product_cost(attended.size(0), cross.o));
    at::Tensor y = b.y.narrow(0, begin, attended.size(0));
    cross.o.into(y, attended.flatten(1));
  };
  std::vector<Sequence> sequences;
  double flops = 0;
  for (const RowLayout::Run& run : b.layout.texts) {
    const auto& [k, v] = texts_.of(run).layers.at(layer);
    sequences.push_back({b.queries.narrow(0, run.begin, run.rows), k, v, {}});
    flops += attention_cost(1, run.rows, k.size(0), transformer_.config().dim).flops;
  }
  if (attention_ != nullptr && attention_->joins(sequences)) {
    const at::Tensor attended = packed_results(b, b.queries.scalar_type());
    {
      const OpScope scope("attention on text", {flops});
      flash_attend_into(attended.split_with_sizes(rows_of(b.layout.texts)), sequences);
    }
    return project(0, attended);
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    const RowLayout::Run& run = b.layout.texts[i];
    at::Tensor attended;
    {
      const OpScope scope("attention on text", attention_cost(1, run.rows, sequences[i].k.size(0), transformer_.config().dim));
      const std::vector<Sequence> padded_one = with_padding({&sequences[i], 1}, kCoarseMultiple);
      attended = (attention_ ? attention_->together(padded_one) : attend_together(padded_one)).front();
    }
    project(run.begin, attended.narrow(0, 0, run.rows));
  }
}

}  // namespace longtake::skyreels
