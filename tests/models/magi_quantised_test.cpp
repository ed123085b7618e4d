// Layers of quantised MAGI-1 checkpoints: the formula of the reference, both ways to compute it, and files that must be refused.
#include "models/magi/quantised.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>

#include "models/magi/backbone.h"
#include "tests/catch.h"
#include "tests/models/magi_tiny.h"
#include "tests/refused.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t kIn = 48, kOut = 32;

std::map<std::string, at::Tensor> layer(bool smooth) {
  std::map<std::string, at::Tensor> weights{{"l.weight", at::randn({kOut, kIn}) / 7}};
  test::quantise(weights, "l", smooth);
  return weights;
}

Linear take(const std::map<std::string, at::Tensor>& weights, magi::QuantisedAs as, at::ScalarType dtype) {
  test::MapSource source(weights, dtype);
  return magi::take_quantised(source, "l", kOut, kIn, as);
}

// Spec 2.9 word for word, inputs rounded with the calibrated scale: to bfloat16, then to e4m3.
at::Tensor reference(const std::map<std::string, at::Tensor>& w, const at::Tensor& x) {
  const auto found = w.find("l.smooth_scale");
  const at::Tensor s = found != w.end() ? found->second.flatten() : w.at("l.input_scale");
  const at::Tensor rounded = (x / s).clamp(-448, 448).to(at::kBFloat16).to(at::kFloat8_e4m3fn).to(at::kFloat);
  return at::linear(rounded, w.at("l.weight").to(at::kFloat)[0]) * w.at("l.input_scale")[0] * w.at("l.weight_scale");
}

double error(const at::Tensor& value, const at::Tensor& want) {
  return ((value.to(at::kFloat) - want).norm() / want.norm()).item<double>();
}

}  // namespace

TEST_CASE("MAGI-1: a quantised layer is the reference's, multiplied out or in fp8") {
  for (const bool smooth : {false, true}) {
    const auto weights = layer(smooth);
    const at::Tensor x = at::randn({9, kIn});
    const at::Tensor want = reference(weights, x);
    const Linear wide = take(weights, magi::QuantisedAs::working_dtype, at::kFloat);
    CHECK_FALSE(wide.in_fp8());
    CHECK(wide.weight.scalar_type() == at::kFloat);
    // Without the rounding of inputs both are the same function.
    at::Tensor exact = weights.at("l.weight").to(at::kFloat)[0] * weights.at("l.weight_scale");
    if (smooth) exact = exact * (weights.at("l.input_scale") / weights.at("l.smooth_scale"));
    CHECK(error(wide(x), at::linear(x, exact)) < 1e-6);
    CHECK(error(wide(x), want) < 0.04);  // e4m3 rounds to 1 part in 16
    const Linear fp8 = take(weights, magi::QuantisedAs::fp8, at::kBFloat16);
    CHECK(fp8.in_fp8());
    CHECK(fp8.input_factors.defined() == smooth);
    CHECK(error(fp8(x.to(at::kBFloat16)), want) < 0.05);
    at::Tensor out = at::zeros({9, kOut}, at::kBFloat16);
    fp8.into(out, x.to(at::kBFloat16));
    CHECK(at::equal(out, fp8(x.to(at::kBFloat16))));
  }
}

TEST_CASE("MAGI-1: scales of single channels count") {
  auto weights = layer(true);
  const at::Tensor x = at::randn({5, kIn});
  const Linear before = take(weights, magi::QuantisedAs::working_dtype, at::kFloat);
  weights["l.smooth_scale"] = weights["l.smooth_scale"].clone();
  weights["l.smooth_scale"][0][3] *= 2;
  const Linear after = take(weights, magi::QuantisedAs::working_dtype, at::kFloat);
  at::Tensor halved = x.clone();
  halved.select(1, 3) *= 0.5;
  CHECK(error(after(x), before(halved)) < 1e-6);
}

TEST_CASE("MAGI-1: sizes that fp8 products do not take are multiplied out") {
  std::map<std::string, at::Tensor> weights{{"l.weight", at::randn({kOut, 40})}};
  test::quantise(weights, "l", false);
  test::MapSource source(weights, at::kBFloat16);
  CHECK_FALSE(magi::take_quantised(source, "l", kOut, 40, magi::QuantisedAs::fp8).in_fp8());
}

TEST_CASE("MAGI-1: damaged quantised layers are refused by name") {
  const auto told = [](const char* name, const at::Tensor& value) {
    auto weights = layer(true);
    if (value.defined())
      weights[name] = value;
    else
      weights.erase(name);
    return refused([&] { take(weights, magi::QuantisedAs::working_dtype, at::kFloat); });
  };
  for (const char* name : {"l.weight_scale", "l.input_scale"}) {
    CHECK_THAT(told(name, {}), ContainsSubstring(name));
    CHECK_THAT(told(name, at::full({1}, -1.0)), ContainsSubstring(name) && ContainsSubstring("not a positive number"));
    CHECK_THAT(told(name, at::full({1}, std::numeric_limits<double>::quiet_NaN())), ContainsSubstring(name));
    CHECK_THAT(told(name, at::full({2}, 1.0)), ContainsSubstring(name));
  }
  CHECK_THAT(told("l.smooth_scale", at::full({kIn}, 1.0)), ContainsSubstring("l.smooth_scale"));
  CHECK_THAT(told("l.smooth_scale", {}), ContainsSubstring("l.input_scale"));  // then it must have one value a channel
  CHECK_THAT(told("l.weight", at::randn({kOut, kIn})), ContainsSubstring("l.weight"));
  CHECK_THAT(told("l.weight", at::full({1, kOut, kIn}, std::numeric_limits<double>::quiet_NaN()).to(at::kFloat8_e4m3fn)),
             ContainsSubstring("not finite"));
}

TEST_CASE("MAGI-1: a transformer with quantised layers runs near the one it was made from") {
  auto config = test::tiny_magi_config();
  config.layers = 3;
  auto weights = test::tiny_magi_weights(config);
  const auto load = [&](magi::QuantisedAs as) {
    test::MapSource source(weights, at::kBFloat16);
    return magi::Transformer(source, config, false, as);
  };
  const auto run = [&](const magi::Transformer& t) {
    const magi::TextKv text = magi::prepare_text(t, at::full({3, 12}, 0.5));
    const std::vector<const magi::TextKv*> texts(1, &text);
    const magi::MagiBackbone backbone(t, {{texts, false, 0}}, text, {.chunks = {{0, 2}}, .latent_height = 6, .latent_width = 4});
    KvCache kv(backbone.kv_shape(), t.dtype(), t.device());
    const at::Tensor x = backbone.embed(at::arange(4 * 2 * 6 * 4, at::kFloat).view({4, 2, 6, 4}).mul(0.37).sin());
    const WorkItem item{.timesteps = {0.5, 0.5}, .keys = {0, 12}};
    return backbone.head(backbone.forward({&item, 1}, {&x, 1}, kv).front(), item.timesteps);
  };
  const magi::Transformer plain = load(magi::QuantisedAs::fp8);
  CHECK(plain.quantised() == 0);
  test::quantise_layer(weights, 1);  // as published: all layers but the first and the last
  const magi::Transformer wide = load(magi::QuantisedAs::working_dtype), fp8 = load(magi::QuantisedAs::fp8);
  CHECK(wide.quantised() == 7);
  CHECK(wide.in_fp8() == 0);
  CHECK(fp8.in_fp8() == 7);
  CHECK(fp8.weight_bytes() < wide.weight_bytes());
  const at::Tensor want = run(plain);
  CHECK(error(run(wide), want) < 0.08);
  CHECK(error(run(fp8), want) < 0.1);
  CHECK(error(run(fp8), run(wide)) < 0.08);
  CHECK(error(run(wide), want) > 1e-4);
}
