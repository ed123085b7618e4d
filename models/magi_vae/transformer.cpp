#include "models/magi_vae/transformer.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/std.h>
#include <ATen/ops/upsample_trilinear3d.h>

#include "attention/attend.h"
#include "base/error.h"
#include "models/ops/norm.h"
#include "models/weights/source.h"

namespace longtake {
namespace {

constexpr double kEpsilon = 1e-5;

Linear take_linear(WeightSource& source, const std::string& name, int64_t out, int64_t in) {
  return {source.take(name + ".weight", {out, in}), source.take(name + ".bias", {out})};
}

// (x - mean) / (standard deviation + epsilon) over the last dimension, in float32.
at::Tensor normalise_heads(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kFloat);
  // Two passes, as the reference does: with rounded q, k and v the last bit of the mean decides which way values round.
  const at::Tensor deviation = at::std(wide, at::OptionalIntArrayRef({-1}), /*correction=*/0, /*keepdim=*/true);
  at::Tensor centred = wide - wide.mean(-1, /*keepdim=*/true);
  return at::GradMode::is_enabled() ? centred / (deviation + kEpsilon) : centred.div_(deviation + kEpsilon);
}

}  // namespace

at::Tensor MagiVaeTransformer::Norm::operator()(const at::Tensor& x) const {
  return layer_norm(x, weight, bias, kEpsilon);
}

MagiVaeTransformer::Norm MagiVaeTransformer::take_norm(WeightSource& source, const std::string& name, int64_t dim) {
  return {source.take(name + ".weight", {dim}), source.take(name + ".bias", {dim})};
}

MagiVaeTransformer::MagiVaeTransformer(WeightSource& source, const MagiVaeConfig& config, const std::string& coder,
                                       bool round_qkv)
    : config_(config), round_qkv_(round_qkv) {
  const int64_t dim = config.dim;
  class_token_ = source.take(coder + ".cls_token", {1, 1, dim});
  positions_ = source.take(coder + ".pos_embed", {1, 1 + config.grid_length() * config.grid() * config.grid(), dim});
  for (int64_t i = 0; i < config.depth; ++i) {
    const std::string name = fmt::format("{}.blocks.{}.", coder, i);
    blocks_.push_back(Block{take_linear(source, name + "attn.qkv", 3 * dim, dim),
                            take_linear(source, name + "attn.proj", dim, dim), take_norm(source, name + "norm2", dim),
                            take_linear(source, name + "mlp.fc1", config.ffn, dim),
                            take_linear(source, name + "mlp.fc2", dim, config.ffn)});
  }
  norm_ = take_norm(source, coder + ".norm", dim);
}

at::Tensor MagiVaeTransformer::positions(std::array<int64_t, 3> grid) const {
  const std::array<int64_t, 3> table = {config_.grid_length(), config_.grid(), config_.grid()};
  if (grid == table) return positions_;
  const int64_t dim = config_.dim, count = table[0] * table[1] * table[2];
  const at::Tensor cells = positions_.narrow(1, 1, count)
                               .to(at::kFloat)
                               .reshape({1, table[0], table[1], table[2], dim})
                               .permute({0, 4, 1, 2, 3});
  const at::Tensor stretched = at::upsample_trilinear3d(cells, at::IntArrayRef(grid), /*align_corners=*/false);
  const at::Tensor rows = stretched.flatten(2).transpose(1, 2).to(positions_.scalar_type());
  return at::cat({positions_.narrow(1, 0, 1), rows}, 1);
}

at::Tensor MagiVaeTransformer::operator()(const at::Tensor& tokens, std::array<int64_t, 3> grid) const {
  const int64_t batch = tokens.size(0), count = grid[0] * grid[1] * grid[2];
  LONGTAKE_CHECK(tokens.dim() == 3 && tokens.size(1) == count && tokens.size(2) == config_.dim,
                 "expected tokens [B, {}, {}], found {}", count, config_.dim, fmt::join(tokens.sizes(), "x"));
  at::Tensor x = at::cat({class_token_.expand({batch, -1, -1}), tokens.to(class_token_.scalar_type())}, 1);
  x = x + positions(grid);
  for (const Block& block : blocks_) {
    x = x + block.proj(attend_all(block, x));
    x = x + block.fc2(at::gelu(block.fc1(block.norm2(x))));
  }
  return norm_(x).narrow(1, 1, count);
}

at::Tensor MagiVaeTransformer::attend_all(const Block& block, const at::Tensor& x) const {
  const int64_t batch = x.size(0), length = x.size(1);
  std::vector<at::Tensor> samples;
  for (int64_t b = 0; b < batch; ++b) {
    // [L, 3, heads, width]
    at::Tensor qkv = normalise_heads(block.qkv(x[b]).view({length, 3, config_.heads, config_.head_dim()}));
    if (round_qkv_) qkv = qkv.to(at::kBFloat16);
    qkv = qkv.to(x.scalar_type());
    samples.push_back(attend(qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2)).reshape({length, config_.dim}));
  }
  return at::stack(samples);
}

}  // namespace longtake
