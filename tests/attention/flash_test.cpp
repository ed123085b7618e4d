// Our kernel for Hopper against softmax attention in float64, over ragged shapes; elsewhere nothing is taken.
#include "attention/flash.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <limits>

#include "attention/planned_attention.h"
#include "base/cuda.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

std::vector<at::Device> hoppers() {
  std::vector<at::Device> found;
  for (const auto& device : test_devices())
    if (device.is_cuda() && cuda::capability(at::empty({1}, device)) == 90) found.push_back(device);
  if (found.empty()) WARN("skipped: no GPU of compute capability 9.0");
  return found;
}

const std::vector<at::ScalarType> kDtypes{at::kBFloat16, at::kHalf, at::kFloat8_e4m3fn};

// (8-bit floats have no arithmetic.)
at::Tensor wide(const at::Tensor& x) { return x.to(at::kFloat); }
at::Tensor bytes(const at::Tensor& x) { return x.contiguous().view(at::kByte); }

at::Tensor random(int64_t rows, int64_t heads, at::ScalarType dtype, const at::Device& device, double size = 1) {
  return (at::randn({rows, heads, 128}, at::TensorOptions().dtype(at::kFloat).device(device)) * size).clamp(-448, 448).to(dtype);
}

Sequence sequence(int64_t queries, int64_t keys, int64_t heads, int64_t key_heads, at::ScalarType dtype, const at::Device& device) {
  return {random(queries, heads, dtype, device, 1.5), random(keys, key_heads, dtype, device), random(keys, key_heads, dtype, device, 3), {}};
}

at::Tensor attention64(const Sequence& s) {
  const auto heads_first = [&](const at::Tensor& x) { return wide(x).to(at::kDouble).transpose(0, 1).repeat_interleave(s.q.size(1) / x.size(1), 0); };
  const at::Tensor scores = at::matmul(heads_first(s.q), heads_first(s.k).transpose(1, 2)) / std::sqrt(128.0);
  return at::matmul(at::softmax(scores, -1), heads_first(s.v)).transpose(0, 1);
}

// What rounding weights and result costs.
double allowed(at::ScalarType dtype) { return dtype == at::kFloat8_e4m3fn ? 0.05 : dtype == at::kHalf ? 1e-3 : 6e-3; }

void check(const at::Tensor& got, const Sequence& s) {
  INFO(s.q.size(0) << " queries of " << s.q.size(1) << " heads on " << s.k.size(0) << " keys of " << s.k.size(1) << " in " << c10::toString(s.q.scalar_type()));
  CHECK(got.sizes() == s.q.sizes());
  CHECK(got.scalar_type() == s.q.scalar_type());
  CHECK(test::relative_error(wide(got), attention64(s)) < allowed(s.q.scalar_type()));
}

}  // namespace

TEST_CASE("flash attention is softmax attention, for queries and keys that fill no tile") {
  for (const auto& device : hoppers())
    for (const auto dtype : kDtypes)
      for (const auto& [heads, key_heads] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 3}, {6, 2}, {4, 1}}) {
        std::vector<Sequence> all;
        for (const int64_t queries : {1, 64, 127, 128, 129, 300})
          for (const int64_t keys : {1, 7, 175, 176, 177, 224, 225, 448, 1000}) all.push_back(sequence(queries, keys, heads, key_heads, dtype, device));
        // More than one launch takes.
        const std::vector<at::Tensor> got = flash_attend(all);
        REQUIRE(got.size() == all.size());
        for (size_t i = 0; i < all.size(); ++i) check(got[i], all[i]);
      }
}

TEST_CASE("flash attention keeps its precision over many keys, and where few of them matter") {
  for (const auto& device : hoppers())
    for (const auto dtype : kDtypes) {
      Sequence s = sequence(70, 20000, 2, 2, dtype, device);
      check(flash_attend({&s, 1}).front(), s);
      // Scores up to hundreds, the largest ones among the first keys, which are read last.
      s.k.narrow(0, 0, 5).copy_(s.q.narrow(0, 0, 5));
      s.q = (wide(s.q) * 8).to(dtype);
      check(flash_attend({&s, 1}).front(), s);
    }
}

TEST_CASE("a sequence's result does not depend on the launch that it is part of, nor on its other queries") {
  for (const auto& device : hoppers())
    for (const auto dtype : kDtypes) {
      // Keys are prefixes of one store, as those of a video's chunks are.
      const at::Tensor k = random(3000, 2, dtype, device), v = random(3000, 2, dtype, device), q = random(2000, 2, dtype, device);
      std::vector<Sequence> all;
      for (int i = 0; i < 4; ++i) all.push_back({q.narrow(0, 500 * i, 500), k.narrow(0, 0, 600 * (i + 1) + 77), v.narrow(0, 0, 600 * (i + 1) + 77), {}});
      const std::vector<at::Tensor> together = flash_attend(all), again = flash_attend(all);
      for (size_t i = 0; i < all.size(); ++i) {
        INFO("sequence " << i << " in " << c10::toString(dtype));
        CHECK(at::equal(bytes(again[i]), bytes(together[i])));
        CHECK(at::equal(bytes(flash_attend({&all[i], 1}).front()), bytes(together[i])));
        const Sequence part{all[i].q.narrow(0, 101, 50), all[i].k, all[i].v, {}};
        CHECK(at::equal(bytes(flash_attend({&part, 1}).front()), bytes(together[i].narrow(0, 101, 50))));
      }
    }
}

TEST_CASE("flash attention reads no key behind the last one, and keeps a query's NaN to itself") {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& device : hoppers())
    for (const auto dtype : kDtypes) {
      const auto floats = at::TensorOptions().dtype(at::kFloat).device(device);
      const Sequence s = sequence(200, 333, 2, 2, dtype, device);
      const auto followed = [&](const at::Tensor& x) { return at::cat({wide(x), at::full({300, 2, 128}, kNan, floats)}).to(dtype).narrow(0, 0, x.size(0)); };
      const Sequence dirty{s.q, followed(s.k), followed(s.v), {}};
      const at::Tensor got = flash_attend({&s, 1}).front();
      CHECK(at::equal(bytes(flash_attend({&dirty, 1}).front()), bytes(got)));
      at::Tensor queries = wide(s.q).clone();
      queries.narrow(0, 150, 50).fill_(kNan);
      const Sequence some{queries.to(dtype), s.k, s.v, {}};
      CHECK(at::equal(bytes(flash_attend({&some, 1}).front().narrow(0, 0, 150)), bytes(got.narrow(0, 0, 150))));
    }
}

TEST_CASE("in e4m3 a factor on the values passes through flash attention, and the largest values do not overflow") {
  for (const auto& device : hoppers()) {
    const Sequence s = sequence(256, 700, 2, 2, at::kFloat8_e4m3fn, device);
    const auto run = [&](const at::Tensor& values) {
      const Sequence with{s.q, s.k, values.clamp(-448, 448).to(at::kFloat8_e4m3fn), {}};
      return wide(flash_attend({&with, 1}).front());
    };
    CHECK(test::relative_error(run(wide(s.v) * 32), run(wide(s.v)) * 32) < 2e-3);  // (subnormal values and results round otherwise)
    const at::Tensor largest = at::full({700, 2, 128}, 448.0, wide(s.v).options());
    CHECK(at::equal(run(largest), largest.narrow(0, 0, 256)));
  }
}

TEST_CASE("rows take flash attention without a plan, whatever their sequences' lengths") {
  for (const auto& device : hoppers())
    for (const auto dtype : kDtypes) {
      PlannedAttention attention(device), plans(device, PlannedAttention::Kernels::cudnn);
      CHECK(attention.try_out(dtype, 2, 128) == "");
      CHECK(plans.try_out(dtype, 2, 128) == "");
      const std::vector<Sequence> all{sequence(300, 5000, 2, 2, dtype, device), sequence(40, 2777, 2, 2, dtype, device), sequence(256, 100, 2, 2, dtype, device)};
      CHECK(attention.joins(all));
      CHECK_FALSE(plans.joins(all));
      const std::vector<at::Tensor> got = attention.together(all);
      CHECK(attention.plans() == 0);
      for (size_t i = 0; i < all.size(); ++i) {
        check(got[i], all[i]);
        CHECK(at::equal(bytes(got[i]), bytes(flash_attend({&all[i], 1}).front())));
      }
    }
}

TEST_CASE("flash attention takes nothing that its kernel is not for") {
  for (const auto& device : test_devices()) {
    PlannedAttention attention(device);
    attention.try_out(at::kBFloat16, 2, 128);
    const Sequence s = sequence(8, 3000, 2, 2, at::kBFloat16, device);
    const bool taken = device.is_cuda() && cuda::capability(s.q) == 90;
    CHECK(flash_takes(s) == taken);
    CHECK(attention.joins({&s, 1}) == taken);
    const auto refused = [&](const Sequence& x) {
      CHECK_FALSE(flash_takes(x));
      CHECK_THROWS_WITH(flash_attend({&x, 1}), Catch::Matchers::ContainsSubstring("that our kernel takes"));
    };
    refused({wide(s.q), wide(s.k), wide(s.v), {}});
    refused({s.q, s.k.to(at::kHalf), s.v, {}});
    refused({s.q, s.k, s.v, at::empty({3000}, s.q.options())});
    refused({s.q.narrow(2, 0, 64).contiguous(), s.k.narrow(2, 0, 64).contiguous(), s.v.narrow(2, 0, 64).contiguous(), {}});
    refused({s.q, s.k, s.v.narrow(0, 0, 2999), {}});
    refused({s.q.narrow(1, 0, 1), s.k, s.v, {}});
    refused({s.q.transpose(0, 1).contiguous().transpose(0, 1), s.k, s.v, {}});
    refused({s.q, s.k.narrow(0, 0, 0), s.v.narrow(0, 0, 0), {}});
    if (!taken) continue;
    const at::Tensor small = at::empty({7, 2, 128}, s.q.options());
    CHECK_THROWS_WITH(flash_attend_into({&small, 1}, {&s, 1}), Catch::Matchers::ContainsSubstring("expected a dense result [8, 2, 128] of BFloat16, found [7, 2, 128]"));
  }
}
