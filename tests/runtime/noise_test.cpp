#include "runtime/noise.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/sum.h>

#include <bit>

#include "base/error.h"
#include "tests/catch.h"

using longtake::noise_stream;
using longtake::NoiseKind;
using longtake::normal;

namespace {

std::vector<uint32_t> bits(const at::Tensor& x) {
  std::vector<uint32_t> out;
  for (int64_t i = 0; i < x.numel(); ++i) out.push_back(std::bit_cast<uint32_t>(x.const_data_ptr<float>()[i]));
  return out;
}

// FNV-1a over the float32 bytes, little-endian.
uint64_t fingerprint(const at::Tensor& x) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (uint32_t word : bits(x))
    for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ (word >> shift & 0xff)) * 0x100000001b3u;
  return hash;
}

double correlation(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return ((x * y).sum() / ((x * x).sum() * (y * y).sum()).sqrt()).item<double>();
}

}  // namespace

TEST_CASE("Philox gives Random123's known answers") {
  using Words = std::array<uint32_t, 4>;
  CHECK(longtake::philox4x32_10({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const uint32_t all = 0xffffffff;
  CHECK(longtake::philox4x32_10({all, all, all, all}, {all, all}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(longtake::philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("the bits of a seed never change") {
  // From an independent implementation with a math library's log, cos and sin, rounded to float32.
  CHECK(bits(normal(0, noise_stream(NoiseKind::latents, 0), {6})) ==
        std::vector<uint32_t>{0x3f0ebaaf, 0x3f68a76a, 0x3f70a663, 0xbf823229, 0xbd3b3e1a, 0x3e543bb1});
  CHECK(bits(normal(0xfedcba9876543210u, noise_stream(NoiseKind::prefix, 3, 64), {2, 3})) ==
        std::vector<uint32_t>{0xbea1a2f5, 0xbf2bff3d, 0xbeabb190, 0xbf4c0113, 0x3fdfc983, 0x3f3ee6e6});
  CHECK(fingerprint(normal(1024, noise_stream(NoiseKind::latents, 0), {100000})) == 0xbc32a2bdae6185e3u);
}

TEST_CASE("a longer tensor extends a shorter one, whatever its shape") {
  const uint64_t stream = noise_stream(NoiseKind::latents, 1);
  const at::Tensor all = normal(7, stream, {1003});
  for (int64_t n : {0, 1, 2, 3, 4, 5, 127}) CHECK(normal(7, stream, {n}).equal(all.narrow(0, 0, n)));
  CHECK(normal(7, stream, {17, 59}).view(-1).equal(all));
}

TEST_CASE("moments and tails are those of a normal distribution") {
  const uint64_t seed = GENERATE(as<uint64_t>{}, 0, 1, 0xffffffffffffffffu);
  const int64_t n = 400000;
  const at::Tensor x = normal(seed, noise_stream(NoiseKind::latents, 0), {n}).to(at::kDouble);
  const double root = std::sqrt(static_cast<double>(n));
  // Five standard errors each.
  CHECK(std::abs(x.mean().item<double>()) < 5 / root);
  CHECK(std::abs((x * x).mean().item<double>() - 1) < 5 * std::sqrt(2.) / root);
  CHECK(std::abs((x * x * x).mean().item<double>()) < 5 * std::sqrt(15.) / root);
  CHECK(std::abs((x * x * x * x).mean().item<double>() - 3) < 5 * std::sqrt(96.) / root);
  for (auto [limit, share] : {std::pair{1., 0.317310508}, {2., 0.045500264}, {3., 0.002699796}}) {
    const double found = (x.abs() > limit).sum().item<int64_t>() / static_cast<double>(n);
    CHECK(std::abs(found - share) < 5 * std::sqrt(share / n));
  }
  CHECK(x.abs().max().item<double>() < 6.77);
}

TEST_CASE("streams, seeds and neighbours do not correlate") {
  const int64_t n = 100000;
  const double limit = 5 / std::sqrt(static_cast<double>(n));
  const at::Tensor base = normal(1, noise_stream(NoiseKind::latents, 0), {n});
  const std::vector<at::Tensor> others = {normal(1, noise_stream(NoiseKind::latents, 1), {n}),
                                          normal(1, noise_stream(NoiseKind::prefix, 0, 0), {n}),
                                          normal(1, noise_stream(NoiseKind::prefix, 0, 1), {n}),
                                          normal(1, noise_stream(NoiseKind::prefix, 1, 0), {n}),
                                          normal(2, noise_stream(NoiseKind::latents, 0), {n}),
                                          normal(1ull << 32, noise_stream(NoiseKind::latents, 0), {n})};
  for (size_t i = 0; i < others.size(); ++i) {
    CHECK(std::abs(correlation(base, others[i])) < limit);
    for (size_t j = 0; j < i; ++j) CHECK(std::abs(correlation(others[i], others[j])) < limit);
  }
  for (int64_t lag : {1, 2, 3, 4, 8})
    CHECK(std::abs(correlation(base.narrow(0, 0, n - lag), base.narrow(0, lag, n - lag))) < 1.1 * limit);
}

TEST_CASE("streams are told apart by kind, window and row") {
  CHECK(noise_stream(NoiseKind::latents, 0) == 1ull << 56);
  CHECK(noise_stream(NoiseKind::prefix, 2, 5) == (2ull << 56 | 2ull << 32 | 5));
  CHECK_THROWS_AS(noise_stream(NoiseKind::latents, -1), longtake::Error);
  CHECK_THROWS_AS(noise_stream(NoiseKind::latents, 1 << 24), longtake::Error);
}

TEST_CASE("the default source needs no order") {
  longtake::PhiloxNoise forward(5), backward(5);
  const at::Tensor first = forward.latents(0, {2, 3}), second = forward.latents(1, {2, 3}),
                   row = forward.prefix(1, 4, {2, 3});
  CHECK(backward.prefix(1, 4, {2, 3}).equal(row));
  CHECK(backward.latents(1, {2, 3}).equal(second));
  CHECK(backward.latents(0, {2, 3}).equal(first));
  CHECK_FALSE(first.equal(second));
  CHECK_FALSE(row.equal(second));
}

TEST_CASE("the parity source draws what the reference draws, in its order") {
  // Values of torch.randn under torch.Generator().manual_seed(11) and torch.manual_seed(5).
  longtake::TorchNoise noise(11, 5);
  auto near = [](const at::Tensor& x, int64_t i, double value) {
    return std::abs(x.reshape({-1})[i].item<double>() - value) < 2e-6;
  };
  const at::Tensor first = noise.latents(0, {2, 3, 4});
  CHECK(near(first, 0, -0.5107975602149963));
  CHECK(near(first, 3, 0.12299131602048874));
  CHECK(near(noise.latents(1, {5}), 1, 1.194069504737854));
  const at::Tensor prefix = noise.prefix(1, 0, {2, 3, 2, 2});
  CHECK(near(prefix, 0, 1.8423298597335815));
  CHECK(near(prefix, 23, -0.06473517417907715));

  CHECK_THROWS_AS(noise.latents(1, {5}), longtake::Error);
  CHECK_THROWS_AS(noise.prefix(1, 2, {5}), longtake::Error);
  CHECK_THROWS_AS(noise.prefix(2, 1, {5}), longtake::Error);
  CHECK(noise.prefix(1, 1, {5}).numel() == 5);
  CHECK(noise.prefix(2, 0, {5}).numel() == 5);
}
