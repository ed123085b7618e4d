#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>

#include "base/error.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/safetensors.h"
#include "tests/catch.h"
#include "tests/models/weights_files.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using test::TempFolder;

TEST_CASE("checkpoint source: names, shapes and dtypes") {
  const TempFolder folder;
  const auto path = folder / "m.safetensors";
  const at::Tensor weight = at::randn({3, 2}).to(at::kBFloat16);
  save_safetensors(path, {{"new.w", weight}, {"new.n", at::arange(3)}, {"extra", at::ones({1})}});
  const auto rename = [](const std::string& name) { return "new." + name; };

  CheckpointSource same(Checkpoint::open(path), rename, at::kCPU, at::kBFloat16);
  CHECK(same.has("w"));
  CHECK_FALSE(same.has("new.w"));
  CHECK(same.shape("w") == std::vector<int64_t>{3, 2});
  const at::Tensor taken = same.take("w", {3, 2});
  CHECK(at::equal(taken, weight));
  CHECK(taken.data_ptr() == same.checkpoint().tensor("new.w").data_ptr());  // bf16 as bf16: a view, no copy
  CHECK(same.unused() == std::vector<std::string>{"extra", "new.n"});

  CheckpointSource wide(Checkpoint::open(path), rename, at::kCPU, at::kFloat);
  CHECK(wide.take("w", {3, 2}).scalar_type() == at::kFloat);
  CHECK(at::equal(wide.take("w", {3, 2}), weight.to(at::kFloat)));
  CHECK(wide.take("n", {3}).scalar_type() == at::kLong);  // whole numbers stay whole
  CHECK(wide.unused() == std::vector<std::string>{"extra"});

  CHECK_THROWS_WITH(wide.take("w", {2, 3}), ContainsSubstring("'new.w' has the shape [3, 2], expected was [2, 3]"));
  CHECK_THROWS_WITH(wide.take("w", {2, 3}), ContainsSubstring(path.string()));
  CHECK_THROWS_WITH(wide.take("q", {1}), ContainsSubstring("lacks the tensor 'new.q' (in the original naming 'q')"));
  CHECK_THROWS_WITH(wide.shape("q"), ContainsSubstring("lacks the tensor"));
  CHECK_THROWS_AS(wide.take("q", {1}), Error);

  // float32 from what is stored, not from the source's dtype.
  const auto fine = folder / "fine.safetensors";
  save_safetensors(fine, {{"w", at::randn({4})}});
  CheckpointSource coarse(Checkpoint::open(fine), nullptr, at::kCPU, at::kBFloat16);
  CHECK(at::equal(coarse.take_float32("w", {4}), coarse.checkpoint().tensor("w")));
  CHECK_FALSE(at::equal(coarse.take("w", {4}).to(at::kFloat), coarse.checkpoint().tensor("w")));
  CHECK_THROWS_WITH(coarse.take_float32("w", {5}), ContainsSubstring("expected was [5]"));

  CheckpointSource plain(Checkpoint::open(path), nullptr, at::kCPU, at::kFloat);
  CHECK(plain.has("new.w"));
}

TEST_CASE("init source: rules by name and shape") {
  InitSource source([](const std::string& name) { return name != "fps_embedding.weight"; }, 7);
  CHECK(source.has("x"));
  CHECK_FALSE(source.has("fps_embedding.weight"));
  CHECK_THROWS_WITH(source.shape("x"), ContainsSubstring("yet to be created"));

  const auto deviation = [](const at::Tensor& t) { return t.std().item<double>(); };
  for (const std::string name : {"blocks.0.self_attn.q.bias", "head.head.weight", "fps_projection.2.weight"}) {
    CHECK(source.take(name, {8, 8}).abs().max().item<float>() == 0);
  }
  CHECK(source.take("encoder.middle.1.proj.weight", {4, 4, 1, 1}).abs().max().item<float>() == 0);
  CHECK(at::equal(source.take("blocks.0.self_attn.norm_q.weight", {8}), at::ones({8})));
  CHECK(at::equal(source.take("decoder.head.0.gamma", {8, 1, 1, 1}), at::ones({8, 1, 1, 1})));
  // The standard deviation of 40000 samples is known to about 0.35 %; a wrong rule is off by far more than 3 %.
  const auto near = [](double found, double expected) { return std::abs(found / expected - 1) < 0.03; };
  CHECK(near(deviation(source.take("token_embedding.weight", {400, 100})), 0.02));
  CHECK(near(deviation(source.take("blocks.0.pos_embedding.embedding.weight", {400, 100})), 1));
  CHECK(near(deviation(source.take("blocks.0.modulation", {1, 400, 100})), 0.1));
  CHECK(near(deviation(source.take("head.modulation", {1, 400, 100})), 0.1));
  CHECK(near(deviation(source.take("text_embedding.0.weight", {100, 400})), std::sqrt(2.0 / 500)));
  CHECK(near(deviation(source.take("patch_embedding.weight", {1000, 10, 1, 2, 2})), std::sqrt(1.0 / 40)));
  CHECK(near(deviation(source.take("decoder.head.2.weight", {100, 20, 3, 3, 3})), std::sqrt(1.0 / 540)));
  CHECK_THROWS_WITH(source.take("mystery", {2}), ContainsSubstring("no rule"));
  CHECK_THROWS_WITH(source.take("blocks.0.modulation", {1, 6, 4}), ContainsSubstring("was created with shape"));
}

TEST_CASE("init source: the seed and the name decide, not the order") {
  const auto any = [](const std::string&) { return true; };
  InitSource first(any, 1), second(any, 1), other(any, 2);
  const at::Tensor a = first.take("a.weight", {4, 4}), b = first.take("b.weight", {4, 4});
  const at::Tensor b2 = second.take("b.weight", {4, 4}), a2 = second.take("a.weight", {4, 4});
  CHECK(at::equal(a, a2));
  CHECK(at::equal(b, b2));
  CHECK_FALSE(at::equal(a, b));
  CHECK_FALSE(at::equal(a, other.take("a.weight", {4, 4})));
  CHECK(first.take("a.weight", {4, 4}).is_same(a));
  CHECK(first.parameters().size() == 2);
  CHECK(first.parameters().at("a.weight").is_same(a));
  CHECK(a.scalar_type() == at::kFloat);
}
