#include "models/ops/bench_ops.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>

#include "attention/attend.h"
#include "attention/planned_attention.h"
#include "attention/qkv_rows.h"
#include "attention/rope.h"
#include "base/error.h"
#include "models/ops/residual_norm.h"
#include "quant/linear.h"

namespace longtake {
namespace {

class OpList {
 public:
  OpList(const BenchSizes& s, const at::Device& device, at::ScalarType dtype)
      : s_(s),
        typed_(at::TensorOptions().dtype(dtype).device(device)),
        f32_(typed_.dtype(at::kFloat)),
        ints_(typed_.dtype(at::kInt)),
        width_(static_cast<double>(c10::elementSize(dtype))),
        values_(static_cast<double>(s.rows() * s.dim)),
        z_(at::randn({s.rows(), s.dim}, f32_)),
        y_(at::randn({s.rows(), s.dim}, typed_)),
        u_(at::randn({s.rows(), s.dim}, typed_)) {}

  std::vector<BenchOp> take() && {
    add_norms();
    add_qkv();
    add_products();
    add_attention();
    return std::move(ops_);
  }

 private:
  void add(std::string name, double bytes, double flops, double in_layer, std::function<void()> run) {
    ops_.push_back({std::move(name), bytes, flops, in_layer, std::move(run)});
  }

  void add_norms() {
    // Distinct timesteps: one a chunk, the same in every branch.
    const at::Tensor vectors = at::randn({s_.chunks, 6, s_.dim}, f32_) * 0.1;
    const at::Tensor index = at::arange(s_.rows(), ints_).div(s_.computed, "floor").remainder(s_.chunks).to(at::kInt);
    const at::Tensor weight = at::randn({s_.dim}, f32_), bias = at::randn({s_.dim}, f32_);
    const RowNorm modulation = RowNorm::modulation(vectors, index, 0, 1, 1e-6),
                  affine = RowNorm::affine(weight, bias, 1e-6);
    // The gate is small, so that repeated runs on one residual stream stay finite.
    const RowVectors gate{vectors.select(1, 2), index};
    const double added = values_ * (8 + 2 * width_);
    add("norm, modulated", values_ * (4 + width_), 0, 0,
        [=, u = u_, z = z_]() mutable { normalize_rows(u, z, modulation); });
    add("add gated, norm affine", added, 0, 1,
        [=, u = u_, y = y_, z = z_]() mutable { add_and_normalize(u, z, y, gate, affine); });
    add("add, norm modulated", added, 0, 1,
        [=, u = u_, y = y_, z = z_]() mutable { add_and_normalize(u, z, y, {}, modulation); });
    add("add gated, norm modulated", added, 0, 1,
        [=, u = u_, y = y_, z = z_]() mutable { add_and_normalize(u, z, y, gate, modulation); });
    add("add gated", added, 0, 0, [=, u = u_, y = y_, z = z_]() mutable { add_rows(u, z, y, gate); });
  }

  void add_qkv() {
    const int64_t tokens = s_.chunks * s_.chunk_tokens, half = s_.rows() / s_.branches, head_width = s_.dim / s_.heads;
    const QkNorm norm{at::randn({s_.dim}, typed_), at::randn({s_.dim}, typed_),
                      rope_3d(tokens, 1, 1, head_width, typed_.device()), 1e-6};
    const at::Tensor one = at::arange(half, ints_);
    const at::Tensor row = (one.div(s_.computed, "floor") * s_.chunk_tokens + one.remainder(s_.computed)).to(at::kInt);
    for (int64_t b = 0; b < s_.branches; ++b) {
      k_.push_back(at::randn({tokens, s_.heads, head_width}, typed_));
      v_.push_back(at::randn({tokens, s_.heads, head_width}, typed_));
    }
    q_ = at::randn({s_.rows(), s_.heads, head_width}, typed_);
    const at::Tensor qkv = at::randn({s_.rows(), 3 * s_.dim}, typed_);
    add("qk norm, rotation, store", 6 * values_ * width_, 0, 1,
        [=, this_k = k_, this_v = v_, q = q_, branches = s_.branches]() {
          for (int64_t b = 0; b < branches; ++b) {
            KvRows store{this_k[b], this_v[b], row, 0};
            at::Tensor part = q.narrow(0, b * half, half);
            qkv_rows(part, store, qkv.narrow(0, b * half, half), row, norm);
          }
        });
    const at::Tensor weight = norm.weight_q;
    add("q norm of cross attention", 2 * values_ * width_, 0, 1,
        [=, u = u_, y = y_]() mutable { rms_rows(y, u, weight, 1e-6); });
    qkv_ = qkv;
  }

  void add_product(const std::string& name, int64_t rows, double calls, at::Tensor out, const at::Tensor& x,
                   bool gelu = false) {
    const int64_t out_dim = out.size(1), in_dim = x.size(1);
    const Linear layer{at::randn({out_dim, in_dim}, typed_) * (1 / std::sqrt(static_cast<double>(in_dim))),
                       at::randn({out_dim}, typed_)};
    const double n = static_cast<double>(rows), o = static_cast<double>(out_dim), i = static_cast<double>(in_dim);
    add(name, width_ * (n * i + n * o + i * o), 2 * n * i * o, calls,
        [=, out = out.narrow(0, 0, rows), x = x.narrow(0, 0, rows)]() mutable {
          gelu ? layer.gelu_into(out, x) : layer.into(out, x);
        });
  }

  void add_products() {
    const int64_t n = s_.rows();
    const at::Tensor wide = at::randn({n, s_.ffn_dim}, typed_);
    add_product("product q k v", n, 1, qkv_, u_);
    add_product("product o, one chunk", s_.computed, static_cast<double>(s_.chunks * s_.branches), y_, u_);
    add_product("product cross q", n, 1, y_, u_);
    add_product("product cross o, one branch", n / s_.branches, static_cast<double>(s_.branches), y_, u_);
    add_product("product ffn in, gelu", n, 1, wide, u_, true);
    add_product("product ffn in, no gelu", n, 0, wide, u_);
    add_product("product ffn out", n, 1, y_, wide);
  }

  // As FusedRow attends: in one launch where our kernel takes that; else through plans where cuDNN has them, with padded queries and one room for
  // all counts of keys.
  void add_attention() {
    const at::ScalarType dtype = q_.scalar_type();
    const int64_t head_width = s_.dim / s_.heads, window = s_.chunks * s_.chunk_tokens, half = s_.rows() / s_.branches;
    const auto plans = std::make_shared<PlannedAttention>(q_.device());
    const bool planned = plans->try_out(dtype, s_.heads, head_width).empty();
    const bool fp8 = planned && plans->try_out(at::kFloat8_e4m3fn, s_.heads, head_width).empty();
    // A refused shape would be timed as something else.
    plans->on_refusal = [](const std::string& why) { fail(ExitCode::internal, "cuDNN refused {}", why); };

    struct Data {
      at::Tensor q, k, v;
    };
    const auto store = [&] { return at::randn({s_.branches, std::max(window, s_.text_tokens), s_.heads, head_width}, typed_); };
    const Data wide{at::randn({s_.rows() + kCoarseMultiple, s_.heads, head_width}, typed_), store(), store()};
    const bool joins = plans->joins(std::vector<Sequence>{{wide.q, wide.k[0], wide.v[0], {}}});
    const int64_t query_multiple = joins ? 1 : kQueryMultiple, coarse_multiple = joins ? 1 : kCoarseMultiple;
    const auto sequences = [&](const Data& data, int64_t count, int64_t queries, int64_t multiple, int64_t keys) {
      std::vector<Sequence> out;
      for (int64_t b = 0; b < count; ++b)
        out.push_back({data.q.narrow(0, b * half, padded(queries, multiple)), data.k[b].narrow(0, 0, keys), data.v[b].narrow(0, 0, keys), {}});
      return out;
    };
    const bool shares = padded(s_.computed, kCoarseMultiple) < s_.branches * padded(s_.computed, kQueryMultiple);
    const auto add_call = [&](std::string name, int64_t count, int64_t queries, int64_t keys, double bytes, double in_layer, auto run) {
      const auto values = static_cast<double>(count * s_.dim), n = static_cast<double>(queries), m = static_cast<double>(keys);
      add(std::move(name), 2 * bytes * values * (n + m), 4 * values * n * m, in_layer, std::move(run));
    };
    const auto together = [&](std::vector<Sequence> s, int64_t room) { return [=, s = std::move(s)] { plans->together(s, room); }; };
    const auto name = [&](const char* form, int64_t count, int64_t keys) { return fmt::format("{} {} x {} on {}", form, count, s_.computed, keys); };

    // All chunks of the row, each on its own count of keys.
    const auto add_row = [&](const char* form, const Data& data, double bytes, double in_layer) {
      std::vector<Sequence> all;
      for (int64_t keys = s_.chunk_tokens, row = 0; keys <= window; keys += s_.chunk_tokens, row += s_.computed)
        for (int64_t b = 0; b < s_.branches; ++b)
          all.push_back({data.q.narrow(0, b * half + row, s_.computed), data.k[b].narrow(0, 0, keys), data.v[b].narrow(0, 0, keys), {}});
      const double keys = static_cast<double>(window + s_.chunk_tokens) / 2 * static_cast<double>(s_.chunks);  // of all chunks
      const auto values = static_cast<double>(s_.branches * s_.dim);
      add(fmt::format("{} of the row", form), 2 * bytes * values * static_cast<double>(s_.chunks * s_.computed + window),
          4 * values * static_cast<double>(s_.computed) * keys, in_layer, together(std::move(all), 0));
    };
    const auto rounded = [&](const at::Tensor& x) { return fp8 ? x.to(at::kFloat8_e4m3fn) : at::Tensor(); };
    const Data narrow{rounded(wide.q), rounded(wide.k), rounded(wide.v)};
    if (joins) add_row("attention", wide, width_, 1);
    if (joins && fp8) add_row("attention fp8", narrow, 1, 0);
    for (int64_t keys = s_.chunk_tokens; keys <= window; keys += s_.chunk_tokens) {
      add_call(name("attention", s_.branches, keys), s_.branches, s_.computed, keys, width_, joins ? 0 : 1,
               together(sequences(wide, s_.branches, s_.computed, query_multiple, keys), window));
      // Block 0, where one branch serves for all.
      if (shares)
        add_call(name("attention", 1, keys), 1, s_.computed, keys, width_, 0, together(sequences(wide, 1, s_.computed, coarse_multiple, keys), window));
    }
    for (int64_t keys = s_.chunk_tokens; fp8 && keys <= window; keys += s_.chunk_tokens)
      add_call(name("attention fp8", s_.branches, keys), s_.branches, s_.computed, keys, 1, 0,
               together(sequences(narrow, s_.branches, s_.computed, query_multiple, keys), window));
    if (planned)
      add_call(name("attention through ATen", s_.branches, window), s_.branches, s_.computed, window, width_, 0,
               [s = sequences(wide, s_.branches, s_.computed, query_multiple, window)] { attend_together(s); });
    if (joins)
      add_call("cross attention", s_.branches, half, s_.text_tokens, width_, 1, together(sequences(wide, s_.branches, half, 1, s_.text_tokens), 0));
    else
      add_call("cross attention, one branch", 1, half, s_.text_tokens, width_, static_cast<double>(s_.branches),
               together(sequences(wide, 1, half, coarse_multiple, s_.text_tokens), 0));
  }

  const BenchSizes s_;
  at::TensorOptions typed_, f32_, ints_;
  double width_, values_;
  at::Tensor z_, y_, u_, q_, qkv_;
  std::vector<at::Tensor> k_, v_;
  std::vector<BenchOp> ops_;
};

}  // namespace

std::vector<BenchOp> bench_ops(const BenchSizes& sizes, const at::Device& device, at::ScalarType dtype) {
  return OpList(sizes, device, dtype).take();
}

}  // namespace longtake
