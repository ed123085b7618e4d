// Attention of rows, in 8-bit and 16-bit floats, against softmax attention in float64, on every device; on a GPU through cuDNN's plans
// (flash_test.cpp has our kernel).
#include "attention/planned_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>

#include "base/cuda.h"
#include "tests/attention_kernels.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"

using namespace longtake;

namespace {

at::Tensor e4m3(const at::Tensor& x) { return x.clamp(-448, 448).to(at::kFloat8_e4m3fn); }

at::Tensor attention64(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const auto heads_first = [](const at::Tensor& x) { return x.to(at::kDouble).transpose(0, 1); };
  const at::Tensor scores = at::matmul(heads_first(q), heads_first(k).transpose(1, 2)) / std::sqrt(static_cast<double>(q.size(2)));
  return at::matmul(at::softmax(scores, -1), heads_first(v)).transpose(0, 1);
}

struct Shape {
  int64_t queries, keys, heads, width;
};

const std::vector<Shape> kShapes{{256, 1, 1, 128}, {256, 64, 2, 128}, {256, 77, 12, 128}, {512, 1023, 3, 64}, {768, 2000, 12, 128}, {5, 40, 2, 16}};

}  // namespace

TEST_CASE("attention in fp8 is close to attention in float64, one sequence or two, and cuDNN is what runs on Hopper") {
  for (const auto& device : test_devices()) {
    const auto floats = at::TensorOptions().dtype(at::kFloat).device(device);
    PlannedAttention attention(device, PlannedAttention::Kernels::cudnn);
    std::string why = attention.try_out(at::kFloat8_e4m3fn, 12, 128);
    if (device.is_cuda() && cuda::capability(at::randn({1}, floats)) >= 90) {
      INFO("cuDNN: " << why);
      CHECK(why.empty());
    } else {
      CHECK_FALSE(why.empty());
      WARN("not through cuDNN on " << device.str() << ": " << why);
    }
    attention.on_refusal = [](const std::string& text) { WARN("refused: " << text); };
    for (const Shape& s : kShapes)
      for (const int64_t count : {1, 2}) {
        // Keys are prefixes of a longer store, and queries of the sequences overlap.
        const int64_t stored = s.keys + 13, step = std::max<int64_t>(s.queries / 2, 1);
        const at::Tensor q = at::randn({s.queries + step, s.heads, s.width}, floats);
        const at::Tensor k = at::randn({2 * stored, s.heads, s.width}, floats), v = at::randn({2 * stored, s.heads, s.width}, floats) * 20;
        const at::Tensor q8 = e4m3(q), k8 = e4m3(k), v8 = e4m3(v);
        std::vector<Sequence> sequences;
        for (int64_t i = 0; i < count; ++i)
          sequences.push_back({q8.narrow(0, i * step, s.queries), k8.narrow(0, i * stored, s.keys), v8.narrow(0, i * stored, s.keys), {}});
        const std::vector<at::Tensor> got = attention.together(sequences);
        REQUIRE(got.size() == sequences.size());
        for (int64_t i = 0; i < count; ++i) {
          INFO(s.queries << " queries on " << s.keys << " keys, " << s.heads << " heads of " << s.width << ", " << i + 1 << " of " << count << " on "
                         << device.str());
          CHECK(got[i].scalar_type() == at::kFloat8_e4m3fn);
          CHECK(got[i].sizes() == sequences[i].q.sizes());
          CHECK(got[i].is_contiguous());
          // What rounding inputs, weights and result to 4 significant bits costs: 2.6 % each of independent errors, 3.7 % from the logits.
          CHECK(test::relative_error(got[i].to(at::kFloat),
                                     attention64(q.narrow(0, i * step, s.queries), k.narrow(0, i * stored, s.keys), v.narrow(0, i * stored, s.keys))) < 0.1);
          CHECK(test::relative_error(got[i].to(at::kFloat), attention64(sequences[i].q, sequences[i].k, sequences[i].v)) <
                (why.empty() ? 0.08 : 0.045));
        }
      }
  }
}

TEST_CASE("a factor on the values passes through attention in fp8, and the largest values do not overflow") {
  for (const auto& device : test_devices())
    for (const auto kernels : test::attention_kernels(device)) {
      const auto floats = at::TensorOptions().dtype(at::kFloat).device(device);
      PlannedAttention attention(device, kernels);
      attention.try_out(at::kFloat8_e4m3fn, 2, 128);
      const at::Tensor q = e4m3(at::randn({256, 2, 128}, floats)), k = e4m3(at::randn({300, 2, 128}, floats));
      const at::Tensor v = at::randn({300, 2, 128}, floats);
      const auto run = [&](const at::Tensor& values) {
        const Sequence s{q, k, e4m3(values), {}};
        return attention.together({&s, 1}).front().to(at::kFloat);
      };
      CHECK(test::relative_error(run(v * 64), run(v * 32) * 2) < 1e-3);
      CHECK(at::equal(run(at::full({300, 2, 128}, 448.0, floats)), at::full({256, 2, 128}, 448.0, floats)));
    }
}

TEST_CASE("queries behind the last one do not touch the others") {
  for (const auto& device : test_devices())
    for (const auto kernels : test::attention_kernels(device)) {
      const auto floats = at::TensorOptions().dtype(at::kFloat).device(device);
      PlannedAttention attention(device, kernels);
      attention.try_out(at::kFloat8_e4m3fn, 2, 128);
      const at::Tensor q = at::randn({256, 2, 128}, floats), k = e4m3(at::randn({333, 2, 128}, floats)), v = e4m3(at::randn({333, 2, 128}, floats));
      at::Tensor garbage = q.clone();
      garbage.narrow(0, 200, 56).fill_(std::numeric_limits<double>::quiet_NaN());
      const Sequence clean{e4m3(q), k, v, {}}, dirty{garbage.to(at::kFloat8_e4m3fn), k, v, {}};
      const at::Tensor a = attention.together({&clean, 1}).front().to(at::kFloat), b = attention.together({&dirty, 1}).front().to(at::kFloat);
      CHECK(at::equal(a.narrow(0, 0, 200), b.narrow(0, 0, 200)));
    }
}

TEST_CASE("one plan serves all counts of keys up to the room that they have") {
  constexpr int64_t kRoom = 5000;
  for (const auto& device : test_devices())
    for (const at::ScalarType dtype : {at::kFloat8_e4m3fn, at::kBFloat16, at::kHalf}) {
      const auto floats = at::TensorOptions().dtype(at::kFloat).device(device);
      PlannedAttention attention(device, PlannedAttention::Kernels::cudnn);
      const std::string why = attention.try_out(dtype, 3, 128);
      if (device.is_cuda() && cuda::capability(at::randn({1}, floats)) == 90) CHECK(why == "");
      attention.on_refusal = [](const std::string& text) { FAIL_CHECK("refused: " << text); };
      const at::Tensor q = e4m3(at::randn({2 * 512, 3, 128}, floats)).to(dtype), k = e4m3(at::randn({2 * kRoom, 3, 128}, floats)).to(dtype),
                       v = e4m3(at::randn({2 * kRoom, 3, 128}, floats)).to(dtype);
      const double allowed = dtype == at::kFloat8_e4m3fn ? 0.08 : 1e-2;
      const int64_t before = attention.plans();
      for (const int64_t keys : {1, 63, 128, 129, 1000, 2499, 2501, 4999, 5000})
        for (const size_t count : {1, 2}) {
          std::vector<Sequence> sequences;
          for (size_t i = 0; i < count; ++i) {
            const auto at = static_cast<int64_t>(i);
            sequences.push_back({q.narrow(0, 512 * at, 512), k.narrow(0, kRoom * at, keys), v.narrow(0, kRoom * at, keys), {}});
          }
          const std::vector<at::Tensor> got = attention.together(sequences, kRoom);
          for (size_t i = 0; i < count; ++i) {
            INFO(keys << " keys, " << i + 1 << " of " << count << " in " << c10::toString(dtype) << " on " << device.str());
            CHECK(got[i].sizes() == sequences[i].q.sizes());
            CHECK(got[i].is_contiguous());
            CHECK(got[i].scalar_type() == dtype);
            CHECK(test::relative_error(got[i].to(at::kFloat), attention64(sequences[i].q, sequences[i].k, sequences[i].v)) < allowed);
          }
        }
      if (why.empty()) CHECK(attention.plans() - before == 2);
      const Sequence s{q.narrow(0, 0, 10), k.narrow(0, kRoom, 10), v.narrow(0, kRoom, 10), {}};
      CHECK_THROWS_WITH(attention.together({&s, 1}, kRoom + 1), Catch::Matchers::ContainsSubstring("memory for 5001 rows of keys"));
      CHECK_THROWS_WITH(attention.together({&s, 1}, 9), Catch::Matchers::ContainsSubstring("memory for 9 rows of keys"));
    }
}

TEST_CASE("a refusal is told every time") {
  for (const auto& device : test_devices()) {
    PlannedAttention attention(device);
    for (const at::ScalarType dtype : {at::kFloat8_e4m3fn, at::kBFloat16}) {
      const std::string first = attention.try_out(dtype, 2, 24), second = attention.try_out(dtype, 2, 24);
      CHECK(first != "");
      CHECK(second == first);
    }
  }
}

TEST_CASE("what plans are not made for takes attend()") {
  for (const auto& device : test_devices()) {
    const auto floats = at::TensorOptions().dtype(at::kFloat).device(device);
    PlannedAttention attention(device);
    attention.try_out(at::kBFloat16, 4, 128);
    CHECK(attention.try_out(at::kFloat, 4, 128) != "");
    const at::Tensor q = at::randn({40, 4, 128}, floats), k = at::randn({50, 2, 128}, floats), v = at::randn({50, 2, 128}, floats);
    const Sequence wide{q, k, v, {}}, biased{q.to(at::kBFloat16), k.to(at::kBFloat16), v.to(at::kBFloat16), at::randn({50}, floats)};
    for (const Sequence& s : {wide, biased}) {
      const at::Tensor want = attend(s.q, s.k, s.v, {0, 50}, s.bias);
      CHECK(at::equal(attention.together({&s, 1}).front(), want));
    }
  }
}

TEST_CASE("keys may have fewer heads than queries: each serves its neighbouring ones") {
  for (const auto& device : test_devices())
    for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf})
      for (const auto& [heads, key_heads] : std::vector<std::pair<int64_t, int64_t>>{{24, 8}, {6, 2}, {3, 1}}) {
        const auto floats = at::TensorOptions().dtype(at::kFloat).device(device);
        PlannedAttention attention(device, PlannedAttention::Kernels::cudnn);
        const std::string why = attention.try_out(dtype, heads, 128, key_heads);
        if (device.is_cuda() && cuda::capability(at::randn({1}, floats)) == 90) CHECK(why == "");
        attention.on_refusal = [](const std::string& text) { FAIL_CHECK("refused: " << text); };
        const at::Tensor q = at::randn({700, heads, 128}, floats).to(dtype), k = at::randn({900, key_heads, 128}, floats).to(dtype),
                         v = at::randn({900, key_heads, 128}, floats).to(dtype);
        const int64_t before = attention.plans();
        for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{{256, 64}, {700, 900}, {333, 57}}) {
          INFO(queries << " queries of " << heads << " heads on " << keys << " keys of " << key_heads << " in " << c10::toString(dtype) << " on "
                       << device.str());
          const Sequence s{q.narrow(0, 0, queries), k.narrow(0, 0, keys), v.narrow(0, 0, keys), {}};
          const auto shared = [&](const at::Tensor& x) { return x.repeat_interleave(heads / key_heads, 1); };
          CHECK(test::relative_error(attention.together({&s, 1}).front().to(at::kFloat), attention64(s.q, shared(s.k), shared(s.v))) < 1e-2);
        }
        if (why.empty()) CHECK(attention.plans() - before == 3);
      }
}

TEST_CASE("attention in fp8 refuses other dtypes and shapes, and says what it found") {
  PlannedAttention attention(at::kCPU);
  CHECK(attention.try_out(at::kFloat8_e4m3fn, 2, 16) == "it needs a GPU");
  CHECK(attention.try_out(at::kBFloat16, 2, 128) == "it needs a GPU");
  const at::Tensor x = e4m3(at::randn({4, 2, 16}));
  const auto run = [&](const Sequence& s) { attention.together({&s, 1}); };
  CHECK_NOTHROW(run({x, x, x, {}}));
  CHECK_THROWS_WITH(run({x.to(at::kFloat), x, x, {}}), Catch::Matchers::ContainsSubstring("expected dense e4m3"));
  CHECK_THROWS_WITH(run({x, x.narrow(0, 0, 3), x, {}}), Catch::Matchers::ContainsSubstring("expected q [n, heads, width]"));
  CHECK_THROWS_WITH(run({x, x, x, at::randn({4})}), Catch::Matchers::ContainsSubstring("no bias"));
}
