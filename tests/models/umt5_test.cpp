#include "models/umt5/encoder.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>

#include "tests/catch.h"
#include "tests/models/random_source.h"

using namespace longtake;
using namespace longtake::test;
using Catch::Matchers::ContainsSubstring;

namespace {

// heads * head_dim differs from dim, so that no size can stand in for another.
const Umt5Sizes kSmall = {
    .vocabulary = 50, .dim = 24, .heads = 3, .head_dim = 10, .ffn = 40, .layers = 2, .buckets = 32};

at::Tensor random_ids(int64_t batch, int64_t length) {
  return at::randint(0, kSmall.vocabulary, {batch, length}, at::make_generator<at::CPUGeneratorImpl>(5), at::kLong);
}

// The first count[b] positions of row b.
at::Tensor mask_of(const std::vector<int64_t>& counts, int64_t length) {
  at::Tensor mask = at::zeros({static_cast<int64_t>(counts.size()), length}, at::kLong);
  for (size_t row = 0; row < counts.size(); ++row) mask[row].narrow(0, 0, counts[row]).fill_(1);
  return mask;
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a - b).abs().max().item<double>();
}

}  // namespace

TEST_CASE("UMT5: relative positions fall into the reference's buckets") {
  const auto wanted = [](int64_t distance) {
    const int64_t first[] = {8, 12, 16, 23, 32, 46, 64, 91};
    int64_t bucket = distance;
    for (int64_t i = 0; i < 8; ++i) {
      if (distance >= first[i]) bucket = 8 + i;
    }
    return bucket;
  };
  for (int64_t distance = 0; distance < 600; ++distance) {
    CHECK(umt5_position_bucket(-distance, 32) == wanted(distance));
    if (distance > 0) CHECK(umt5_position_bucket(distance, 32) == 16 + wanted(distance));
  }
}

TEST_CASE("UMT5: sizes come from the weights") {
  MapSource source(random_weights(list_umt5_weights(kSmall)));
  const Umt5Sizes sizes = read_umt5_sizes(source);
  CHECK(list_umt5_weights(sizes) == list_umt5_weights(kSmall));
  const Umt5Sizes xxl = {.vocabulary = 256384, .dim = 4096, .heads = 64, .head_dim = 64, .ffn = 10240, .layers = 24};
  int64_t parameters = 0;
  for (const auto& [name, shape] : list_umt5_weights(xxl))
    parameters += shape.size() == 1 ? shape[0] : shape[0] * shape[1];
  CHECK(list_umt5_weights(xxl).size() == 242);
  CHECK(parameters == 5'680'910'336);
}

TEST_CASE("UMT5: padding changes nothing and comes out as zeros") {
  at::NoGradGuard no_grad;
  MapSource source(random_weights(list_umt5_weights(kSmall)));
  const Umt5Encoder encoder(source);
  const at::Tensor ids = random_ids(2, 40);
  const at::Tensor out = encoder.encode(ids, mask_of({9, 30}, 40));
  REQUIRE(out.sizes() == at::IntArrayRef({2, 40, 24}));
  CHECK(out[0].narrow(0, 9, 31).abs().max().item<double>() == 0);
  CHECK(out[1].narrow(0, 30, 10).abs().max().item<double>() == 0);
  CHECK(out[1][29].abs().max().item<double>() > 0);
  // Alone and without padding.
  const at::Tensor alone = encoder.encode(ids.narrow(0, 0, 1).narrow(1, 0, 9), mask_of({9}, 9));
  CHECK(difference(out.narrow(0, 0, 1).narrow(1, 0, 9), alone) < 1e-5);
  // The mask may have any dtype; a hole in it hides that key.
  CHECK(difference(encoder.encode(ids, mask_of({9, 30}, 40).to(at::kBool)), out) == 0);
  at::Tensor hole = mask_of({9, 30}, 40);
  hole[1][3] = 0;
  CHECK(difference(encoder.encode(ids, hole)[1].narrow(0, 4, 26), out[1].narrow(0, 4, 26)) > 1e-4);
  CHECK(encoder.encode(ids, at::zeros({2, 40})).abs().max().item<double>() == 0);
}

TEST_CASE("UMT5: order matters, through the position biases alone") {
  at::NoGradGuard no_grad;
  auto weights = random_weights(list_umt5_weights(kSmall));
  const at::Tensor ids = random_ids(1, 12), reversed = ids.flip(1), mask = mask_of({12}, 12);
  const auto turned = [&] {
    MapSource source(weights);
    const Umt5Encoder encoder(source);
    return difference(encoder.encode(reversed, mask).flip(1), encoder.encode(ids, mask));
  };
  CHECK(turned() > 1e-2);
  for (int layer = 0; layer < 2; ++layer)
    weights[fmt::format("blocks.{}.pos_embedding.embedding.weight", layer)].zero_();
  CHECK(turned() < 1e-5);
}

TEST_CASE("UMT5: bfloat16 stays close to float32") {
  at::NoGradGuard no_grad;
  MapSource source(random_weights(list_umt5_weights(kSmall))),
      half_source(random_weights(list_umt5_weights(kSmall)), at::kBFloat16);
  const Umt5Encoder encoder(source), half(half_source);
  const at::Tensor ids = random_ids(1, 20), mask = mask_of({17}, 20);
  const at::Tensor out = encoder.encode(ids, mask), rounded = half.encode(ids, mask);
  CHECK(rounded.scalar_type() == at::kBFloat16);
  CHECK(((rounded.to(at::kFloat) - out).norm() / out.norm()).item<double>() < 0.05);
}

TEST_CASE("UMT5: gradients reach every weight and agree with differences") {
  std::map<std::string, at::Tensor> weights = random_weights(list_umt5_weights(kSmall));
  for (auto& [name, tensor] : weights) tensor.requires_grad_(true);
  MapSource source(weights);
  const Umt5Encoder encoder(source);
  const at::Tensor ids = random_ids(2, 24), mask = mask_of({24, 7}, 24);
  const auto loss = [&] {
    const at::Tensor out = encoder.encode(ids, mask);
    return (out * at::arange(out.numel()).view(out.sizes()).sin()).mean();
  };
  loss().backward();
  for (const auto& [name, tensor] : weights) {
    INFO(name);
    REQUIRE(tensor.grad().defined());
    CHECK(std::isfinite(tensor.grad().sum().item<double>()));
    CHECK(tensor.grad().abs().max().item<double>() > 0);
  }
  at::NoGradGuard no_grad;
  for (const std::string name : {"token_embedding.weight", "blocks.0.pos_embedding.embedding.weight",
                                 "blocks.0.attn.q.weight", "blocks.1.ffn.gate.0.weight", "norm.weight"}) {
    INFO(name);
    at::Tensor& weight = weights[name];
    const at::Tensor gradient = weight.grad();
    const double square = gradient.pow(2).sum().item<double>();
    const double step = 1e-3 / std::sqrt(square) * weight.norm().item<double>();
    weight.add_(gradient, step);
    const double above = loss().item<double>();
    weight.add_(gradient, -2 * step);
    const double below = loss().item<double>();
    weight.add_(gradient, step);
    CHECK(std::abs((above - below) / (2 * step * square) - 1) < 0.05);
  }
}

TEST_CASE("UMT5: wrong weights and ids are refused") {
  at::NoGradGuard no_grad;
  const auto weights = random_weights(list_umt5_weights(kSmall));
  for (const auto& [name, shape] : list_umt5_weights(kSmall)) {
    auto spoiled = weights;
    spoiled.erase(name);
    MapSource missing(spoiled);
    // Without its first tensor a layer ends the list, and the rest is surplus.
    if (name != "blocks.1.norm1.weight") CHECK_THROWS_WITH(Umt5Encoder(missing), ContainsSubstring(name));
    spoiled[name] = at::zeros({3, 5, 7});
    MapSource misshapen(spoiled);
    CHECK_THROWS_WITH(Umt5Encoder(misshapen), ContainsSubstring(name));
  }
  MapSource source(weights);
  const Umt5Encoder encoder(source);
  const at::Tensor ids = random_ids(1, 4);
  CHECK_THROWS_WITH(encoder.encode(ids, mask_of({4}, 5)), ContainsSubstring("1x5"));
  CHECK_THROWS_WITH(encoder.encode(ids.to(at::kFloat), mask_of({4}, 4)), ContainsSubstring("Float"));
  CHECK_THROWS_WITH(encoder.encode(ids + 50, mask_of({4}, 4)), ContainsSubstring("0 to 49"));
  CHECK_THROWS_WITH(encoder.encode(ids - 50, mask_of({4}, 4)), ContainsSubstring("0 to 49"));
}
