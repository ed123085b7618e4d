#include "attention/attend.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>

#include "tests/catch.h"
#include "tests/devices.h"

using namespace longtake;

namespace {

// Softmax attention in float64, key heads repeated for the query heads they serve.
at::Tensor reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, KeyRange keys, const at::Tensor& bias = {}) {
  auto heads_first = [&](const at::Tensor& x) { return x.to(at::kDouble).transpose(0, 1); };
  const int64_t group = q.size(1) / k.size(1), rows = keys.end - keys.begin;
  const at::Tensor K = heads_first(k.narrow(0, keys.begin, rows)).repeat_interleave(group, 0);
  const at::Tensor V = heads_first(v.narrow(0, keys.begin, rows)).repeat_interleave(group, 0);
  at::Tensor scores = at::matmul(heads_first(q), K.transpose(1, 2)) / std::sqrt(static_cast<double>(q.size(2)));
  if (bias.defined()) scores = scores + bias.narrow(0, keys.begin, rows).to(at::kDouble);
  return at::matmul(at::softmax(scores, -1), V).transpose(0, 1);
}

}  // namespace

TEST_CASE("attend equals softmax attention in float64 over ragged shapes") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes()) {
      const auto options = at::TensorOptions().dtype(dtype).device(device);
      for (const auto& [n, rows, heads, kv_heads, width] : std::vector<std::array<int64_t, 5>>{
               {1, 1, 1, 1, 8}, {1, 77, 4, 4, 24}, {33, 130, 2, 2, 128}, {65, 64, 6, 2, 64}, {7, 3, 3, 3, 16}}) {
        const at::Tensor q = at::randn({n, heads, width}, options);
        const at::Tensor k = at::randn({rows, kv_heads, width}, options), v = at::randn({rows, kv_heads, width}, options);
        for (const KeyRange keys : {KeyRange{0, rows}, KeyRange{rows / 2, rows}, KeyRange{0, (rows + 1) / 2}}) {
          const at::Tensor want = reference(q, k, v, keys);
          const double error = ((attend(q, k, v, keys).to(at::kDouble) - want).norm() / want.norm()).item<double>();
          INFO("n " << n << " rows " << rows << " heads " << heads << "/" << kv_heads << " width " << width);
          CHECK(error < (dtype == at::kFloat ? 1e-5 : 1e-2));
        }
      }
    }
}

TEST_CASE("a bias a key equals softmax attention with it added to the logits") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes()) {
      const auto options = at::TensorOptions().dtype(dtype).device(device);
      for (const auto& [n, rows, heads, kv_heads, width] :
           std::vector<std::array<int64_t, 5>>{{1, 1, 1, 1, 8}, {33, 77, 4, 4, 24}, {65, 130, 6, 2, 64}, {7, 3, 3, 3, 16}}) {
        const at::Tensor q = at::randn({n, heads, width}, options);
        const at::Tensor k = at::randn({rows, kv_heads, width}, options), v = at::randn({rows, kv_heads, width}, options);
        const at::Tensor bias = at::randn({rows}, options.dtype(at::kFloat)) * 2;
        for (const KeyRange keys : {KeyRange{0, rows}, KeyRange{rows / 2, rows}}) {
          const at::Tensor want = reference(q, k, v, keys, bias);
          const double error = ((attend(q, k, v, keys, bias).to(at::kDouble) - want).norm() / want.norm()).item<double>();
          INFO("n " << n << " rows " << rows << " heads " << heads << "/" << kv_heads << " width " << width);
          CHECK(error < (dtype == at::kFloat ? 1e-5 : 2e-2));
        }
      }
    }
}

TEST_CASE("attend refuses what does not fit and says what it found") {
  const at::Tensor q = at::randn({3, 4, 8}), k = at::randn({5, 4, 8});
  CHECK_THROWS_WITH(attend(q, k, k, {0, 6}), Catch::Matchers::ContainsSubstring("within 5 rows, found [0, 6)"));
  CHECK_THROWS_WITH(attend(q, k, k, {2, 2}), Catch::Matchers::ContainsSubstring("non-empty"));
  CHECK_THROWS(attend(q, k, at::randn({4, 4, 8}), {0, 4}));
  CHECK_THROWS(attend(q, k.to(at::kBFloat16), k.to(at::kBFloat16), {0, 5}));
  CHECK_THROWS(attend(at::randn({3, 4, 6}), k, k, {0, 5}));
  CHECK_THROWS(attend(at::randn({3, 5, 8}), k, k, {0, 5}));
  CHECK_THROWS_WITH(attend(q, k, k, {0, 5}, at::randn({4})), Catch::Matchers::ContainsSubstring("each of 5 keys"));
}

TEST_CASE("sequences attended together equal one call each, overlapping queries and biases included") {
  for (const auto& device : test_devices())
    for (const auto dtype : test_dtypes())
      for (const auto& [n, apart, rows, heads, width] : std::vector<std::array<int64_t, 5>>{
               {7, 7, 40, 2, 16}, {16, 9, 33, 3, 24}, {256, 200, 300, 2, 128}, {1, 5, 1, 1, 8}}) {
        const auto options = at::TensorOptions().dtype(dtype).device(device);
        const at::Tensor queries = at::randn({apart + n, heads, width}, options);
        const at::Tensor k = at::randn({2, rows + 3, heads, width}, options), v = at::randn({2, rows + 3, heads, width}, options);
        std::vector<Sequence> sequences;
        for (int64_t i = 0; i < 2; ++i)
          sequences.push_back({queries.narrow(0, i * apart, n), k[i].narrow(0, 2, rows), v[i].narrow(0, 2, rows), {}});
        INFO(n << " queries " << apart << " apart on " << rows << " keys on " << device.str());
        const auto check = [&] {
          const auto out = attend_together(sequences);
          REQUIRE(out.size() == 2);
          for (size_t i = 0; i < 2; ++i) {
            const Sequence& s = sequences[i];
            const at::Tensor want = reference(s.q, s.k, s.v, {0, s.k.size(0)}, s.bias);
            CHECK(((out[i].to(at::kDouble) - want).norm() / want.norm()).item<double>() < (dtype == at::kFloat ? 1e-5 : 2e-2));
          }
        };
        check();
        sequences[1].bias = at::randn({rows}, options.dtype(at::kFloat));
        check();
        sequences[1] = {sequences[1].q, at::randn({rows, heads, width}, options), at::randn({rows, heads, width}, options), {}};
        check();
      }
}
