#include "models/umt5/encoder.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "models/weights/source.h"

namespace longtake {
namespace {

constexpr double kEpsilon = 1e-6;
constexpr int64_t kMaxDistance = 128;

// x / sqrt(mean(x^2) + eps) over the last dimension in float32, rounded to x's dtype, times the weight.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scale = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + kEpsilon);
  return (wide * scale).to(x.scalar_type()) * weight;
}

// Bucket of every key (columns) for every query (rows), flattened.
at::Tensor position_buckets(int64_t length, int64_t buckets, at::Device device) {
  std::vector<int64_t> values;
  values.reserve(length * length);
  for (int64_t query = 0; query < length; ++query) {
    for (int64_t key = 0; key < length; ++key) values.push_back(umt5_position_bucket(key - query, buckets));
  }
  return at::tensor(values, at::kLong).to(device);
}

std::string position_name(int64_t layer) { return fmt::format("blocks.{}.pos_embedding.embedding.weight", layer); }

bool has_positions(const Umt5Sizes& sizes, int64_t layer) {
  return layer == 0 || sizes.position == PositionBias::per_layer;
}

std::vector<int64_t> matrix_shape(const WeightSource& source, const std::string& name) {
  std::vector<int64_t> shape = source.shape(name);
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1) {
    fail_file("the text encoder's tensor {} has shape {} where T5 and UMT5 have a matrix; give an encoder checkpoint of theirs", name,
              fmt::join(shape, "x"));
  }
  return shape;
}

}  // namespace

int64_t umt5_position_bucket(int64_t offset, int64_t buckets) {
  const int64_t half = buckets / 2, exact = half / 2;
  const int64_t base = offset > 0 ? half : 0;
  const int64_t distance = std::abs(offset);
  if (distance < exact) return base + distance;
  // Logarithmic from `exact` to kMaxDistance. The small addend keeps powers of two, whose quotient is a whole number,
  // from rounding down.
  const double position = std::log(static_cast<double>(distance) / static_cast<double>(exact)) /
                          std::log(static_cast<double>(kMaxDistance) / static_cast<double>(exact));
  const auto step = static_cast<int64_t>(position * static_cast<double>(half - exact) + 1e-9);
  return base + std::min(exact + step, half - 1);
}

Umt5Sizes read_umt5_sizes(const WeightSource& source, PositionBias position) {
  Umt5Sizes sizes;
  sizes.position = position;
  const std::vector<int64_t> table = matrix_shape(source, "token_embedding.weight");
  sizes.vocabulary = table[0];
  sizes.dim = table[1];
  const std::vector<int64_t> biases = matrix_shape(source, position_name(0));
  sizes.buckets = biases[0];
  sizes.heads = biases[1];
  const int64_t width = matrix_shape(source, "blocks.0.attn.q.weight")[0];
  if (width % sizes.heads != 0 || sizes.buckets < 4 || sizes.buckets % 4 != 0) {
    fail_file(
        "the text encoder has {} heads and {} buckets (blocks.0.pos_embedding.embedding.weight) for {} rows of "
        "blocks.0.attn.q.weight, "
        "which T5 and UMT5 cannot have; give an encoder checkpoint of theirs",
        sizes.heads, sizes.buckets, width);
  }
  sizes.head_dim = width / sizes.heads;
  sizes.ffn = matrix_shape(source, "blocks.0.ffn.fc1.weight")[0];
  sizes.layers = 1;
  while (source.has(fmt::format("blocks.{}.norm1.weight", sizes.layers))) ++sizes.layers;
  if (position == PositionBias::shared && source.has(position_name(1))) {
    fail_file("the text encoder has position biases in its second layer (blocks.1.pos_embedding.embedding.weight), so it "
              "is UMT5 and not T5 v1.1; give a T5 v1.1 encoder checkpoint");
  }
  return sizes;
}

std::vector<std::pair<std::string, std::vector<int64_t>>> list_umt5_weights(const Umt5Sizes& sizes) {
  const int64_t dim = sizes.dim, width = sizes.heads * sizes.head_dim, ffn = sizes.ffn;
  std::vector<std::pair<std::string, std::vector<int64_t>>> list;
  list.push_back({"token_embedding.weight", {sizes.vocabulary, dim}});
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const std::string name = fmt::format("blocks.{}.", i);
    list.push_back({name + "norm1.weight", {dim}});
    for (const char* projection : {"q", "k", "v"})
      list.push_back({name + "attn." + projection + ".weight", {width, dim}});
    list.push_back({name + "attn.o.weight", {dim, width}});
    if (has_positions(sizes, i)) list.push_back({position_name(i), {sizes.buckets, sizes.heads}});
    list.push_back({name + "norm2.weight", {dim}});
    list.push_back({name + "ffn.gate.0.weight", {ffn, dim}});
    list.push_back({name + "ffn.fc1.weight", {ffn, dim}});
    list.push_back({name + "ffn.fc2.weight", {dim, ffn}});
  }
  list.push_back({"norm.weight", {dim}});
  return list;
}

Umt5Encoder::Umt5Encoder(WeightSource& source, PositionBias position)
    : Umt5Encoder(source, read_umt5_sizes(source, position)) {}

Umt5Encoder::Umt5Encoder(WeightSource& source, const Umt5Sizes& sizes) : sizes_(sizes) {
  const int64_t dim = sizes.dim, width = sizes.heads * sizes.head_dim, ffn = sizes.ffn;
  embedding_ = source.take("token_embedding.weight", {sizes.vocabulary, dim});
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const std::string name = fmt::format("blocks.{}.", i);
    Layer layer;
    layer.norm1 = source.take(name + "norm1.weight", {dim});
    layer.q = source.take(name + "attn.q.weight", {width, dim});
    layer.k = source.take(name + "attn.k.weight", {width, dim});
    layer.v = source.take(name + "attn.v.weight", {width, dim});
    layer.o = source.take(name + "attn.o.weight", {dim, width});
    if (has_positions(sizes, i)) layer.position = source.take(position_name(i), {sizes.buckets, sizes.heads});
    layer.norm2 = source.take(name + "norm2.weight", {dim});
    layer.gate = source.take(name + "ffn.gate.0.weight", {ffn, dim});
    layer.fc1 = source.take(name + "ffn.fc1.weight", {ffn, dim});
    layer.fc2 = source.take(name + "ffn.fc2.weight", {dim, ffn});
    layers_.push_back(std::move(layer));
  }
  norm_ = source.take("norm.weight", {dim});
}

at::Tensor Umt5Encoder::encode(const at::Tensor& ids, const at::Tensor& mask) const {
  if (ids.dim() != 2 || ids.scalar_type() != at::kLong || mask.sizes() != ids.sizes()) {
    fail_usage(
        "token ids are an int64 tensor [batch, length] with a mask of the same shape, these are {} {} with a mask of "
        "{}; tokenise the prompt again",
        toString(ids.scalar_type()), fmt::join(ids.sizes(), "x"), fmt::join(mask.sizes(), "x"));
  }
  const at::Device device = embedding_.device();
  const at::Tensor real = mask.to(at::kCPU).ne(0);
  // Rows behind the last real token come out as 0 and no real token attends to them.
  const at::Tensor used = real.any(0).nonzero();
  const int64_t batch = ids.size(0), all = ids.size(1);
  const int64_t length = used.size(0) == 0 ? 0 : used[used.size(0) - 1].item<int64_t>() + 1;
  if (length == 0) return at::zeros({batch, all, sizes_.dim}, embedding_.options().requires_grad(false));

  const at::Tensor tokens = ids.narrow(1, 0, length);
  const int64_t low = tokens.min().item<int64_t>(), high = tokens.max().item<int64_t>();
  if (low < 0 || high >= sizes_.vocabulary) {
    fail_usage("token ids lie in 0 to {}, found {}; the tokenizer belongs to another text encoder",
               sizes_.vocabulary - 1, low < 0 ? low : high);
  }

  const at::Tensor keep = real.narrow(1, 0, length).to(device);  // [B, L]
  const at::Tensor hide =
      keep.logical_not().to(at::kFloat).mul(std::numeric_limits<float>::lowest()).view({batch, 1, 1, length});
  const at::Tensor buckets = position_buckets(length, sizes_.buckets, device);
  at::Tensor x = at::embedding(embedding_, tokens.to(device));
  at::Tensor bias;
  for (const Layer& layer : layers_) {
    if (layer.position.defined()) {
      // [heads, L, L] + [B, 1, 1, L]
      const at::Tensor position =
          layer.position.to(at::kFloat).index_select(0, buckets).t().reshape({sizes_.heads, length, length});
      bias = position + hide;
    }
    x = x + attend(layer, rms_norm(x, layer.norm1), bias);
    const at::Tensor y = rms_norm(x, layer.norm2);
    x = x + at::linear(at::linear(y, layer.fc1) * at::gelu(at::linear(y, layer.gate), "tanh"), layer.fc2);
  }
  x = rms_norm(x, norm_) * keep.unsqueeze(2).to(x.scalar_type());
  return at::constant_pad_nd(x, {0, 0, 0, all - length});
}

at::Tensor Umt5Encoder::attend(const Layer& layer, const at::Tensor& x, const at::Tensor& bias) const {
  const int64_t batch = x.size(0), length = x.size(1);
  const auto heads = [&](const at::Tensor& weight) {
    return at::linear(x, weight).view({batch, length, sizes_.heads, sizes_.head_dim}).transpose(1, 2);
  };
  const at::Tensor scores = at::matmul(heads(layer.q), heads(layer.k).transpose(2, 3)).to(at::kFloat) + bias;
  const at::Tensor weights = at::softmax(scores, -1).to(x.scalar_type());
  const at::Tensor y =
      at::matmul(weights, heads(layer.v)).transpose(1, 2).reshape({batch, length, sizes_.heads * sizes_.head_dim});
  return at::linear(y, layer.o);
}

}  // namespace longtake
