// T5 v1.1 and the cleaning of its captions against what other programs make of the same input (tests/data/t5).
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include <nlohmann/json.hpp>

#include "base/strict_json.h"
#include "models/umt5/caption_clean.h"
#include "models/umt5/encoder.h"
#include "models/umt5/tokenizer.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/mapped_file.h"
#include "models/weights/names.h"
#include "tests/catch.h"
#include "tests/models/random_source.h"

using namespace longtake;
using namespace longtake::test;
using Catch::Matchers::ContainsSubstring;

namespace {

const std::filesystem::path kData = std::filesystem::path(LONGTAKE_SOURCE_DIR) / "tests/data/t5";

const Umt5Sizes kSmall = {
    .vocabulary = 50, .dim = 24, .heads = 3, .head_dim = 10, .ffn = 40, .layers = 2, .position = PositionBias::shared};

CheckpointSource open_encoder(at::ScalarType dtype) {
  Checkpoint checkpoint = Checkpoint::open(kData / "t5.safetensors");
  auto translate = umt5_translator(checkpoint);
  return CheckpointSource(std::move(checkpoint), std::move(translate), at::kCPU, dtype);
}

double error(const at::Tensor& value, const at::Tensor& reference) {
  REQUIRE(value.sizes() == reference.sizes());
  return ((value.to(at::kFloat) - reference).norm() / reference.norm()).item<double>();
}

}  // namespace

TEST_CASE("T5: the encoder agrees with another program") {
  at::NoGradGuard no_grad;
  const Checkpoint io = Checkpoint::open(kData / "t5_io.safetensors");
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    CheckpointSource source = open_encoder(dtype);
    const Umt5Encoder encoder(source, PositionBias::shared);
    CHECK(source.unused().empty());
    const at::Tensor out = encoder.encode(io.tensor("ids"), io.tensor("mask"));
    REQUIRE(out.sizes() == at::IntArrayRef({2, 150, 16}));
    const double tolerance = dtype == at::kFloat ? 1e-5 : 6e-2;
    CHECK(error(out[0].narrow(0, 0, 30), io.tensor("short")) < tolerance);
    CHECK(error(out[1].slice(0, 0, 150, 3), io.tensor("long")) < tolerance);
    CHECK(out[0].narrow(0, 30, 120).abs().max().item<double>() == 0);
  }
}

TEST_CASE("T5: all layers share the first one's position biases") {
  at::NoGradGuard no_grad;
  const auto list = list_umt5_weights(kSmall);
  MapSource source(random_weights(list));
  CHECK(list_umt5_weights(read_umt5_sizes(source, PositionBias::shared)) == list);
  const Umt5Encoder shared(source, PositionBias::shared);
  // A UMT5 encoder with the same table in both layers is the same encoder.
  const std::string first = "blocks.0.pos_embedding.embedding.weight",
                    second = "blocks.1.pos_embedding.embedding.weight";
  auto weights = random_weights(list);
  weights[second] = weights[first];
  MapSource both(weights);
  const Umt5Encoder separate(both);
  const at::Tensor ids = at::tensor({3, 1, 4, 1, 5, 9, 2, 6}, at::kLong).view({1, 8}), mask = at::ones({1, 8});
  CHECK(shared.encode(ids, mask).equal(separate.encode(ids, mask)));

  CHECK_THROWS_WITH(Umt5Encoder(both, PositionBias::shared), ContainsSubstring(second));
  MapSource one(random_weights(list));
  CHECK_THROWS_WITH(Umt5Encoder(one), ContainsSubstring(second));
  const Umt5Sizes xxl = {.vocabulary = 32128,
                         .dim = 4096,
                         .heads = 64,
                         .head_dim = 64,
                         .ffn = 10240,
                         .layers = 24,
                         .position = PositionBias::shared};
  int64_t parameters = 0;
  for (const auto& [name, shape] : list_umt5_weights(xxl))
    parameters += shape.size() == 1 ? shape[0] : shape[0] * shape[1];
  CHECK(parameters == 4'762'310'656);
}

TEST_CASE("T5: captions come out clean as in another program") {
  const nlohmann::json pairs =
      parse_strict_json_array(MappedFile::open(kData / "captions.json")->bytes(), "captions.json");
  for (const auto& pair : pairs) {
    const auto caption = pair[0].get<std::string>();
    INFO(caption);
    CHECK(clean_caption(caption) == pair[1].get<std::string>());
  }
}

TEST_CASE("T5: hostile captions end in time") {
  CHECK_THROWS_WITH(clean_caption("a\xff"), ContainsSubstring("byte 1"));
  for (const char* part :
       {"<", "<!--", "<a ", "a.", "a.com@", ".png", "%", "\"'", " ", " . ", "http:", "1x", "&", "#1"}) {
    std::string text;
    while (text.size() < 100'000) text += part;
    CHECK_NOTHROW(clean_caption(text));
  }
}

TEST_CASE("T5: a caption's tokens end with the end mark and fill 800") {
  const Tokenizer tokenizer(std::filesystem::path(LONGTAKE_SOURCE_DIR) / "share/models/demo/tokenizer/spiece.model");
  const PromptTokens tokens = tokenizer.encode_caption("A  RED circle &amp; http://x.com");
  CHECK(tokens.ids == tokenizer.encode("a red circle").ids);
  CHECK(tokens.ids.back() == tokenizer.end_id());
  CHECK(tokenizer.encode_caption("").ids == std::vector<int64_t>{tokenizer.end_id()});
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "red ";
  const PromptTokens cut = tokenizer.encode_caption(text);
  CHECK(cut.truncated());
  CHECK(cut.ids.size() == 800);
  CHECK(cut.ids.back() == tokenizer.end_id());
  const PromptTokens all[] = {tokens, cut};
  const TokenBatch batch = tokenizer.pad(all, 800);
  CHECK(batch.ids.sizes() == at::IntArrayRef({2, 800}));
  CHECK(batch.ids[0][799].item<int64_t>() == tokenizer.pad_id());
}
