// Caption rows of MAGI-1's chunks against the reference's.
#include "models/magi/text_rows.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/sum.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/golden/golden.h"

using namespace longtake;

TEST_CASE("MAGI-1's caption rows are the reference's", "[golden]") {
  const auto root = golden::magi();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  for (const std::string set : {"base", "distill"}) {
    const Checkpoint io = Checkpoint::open(root / set / "text_rows.safetensors");
    const Checkpoint pipeline = Checkpoint::open(root / set / "pipeline.safetensors");
    const at::Tensor null_caption =
        Checkpoint::open(root / set / "dit.safetensors").tensor("y_embedder.null_caption_embedding");
    const auto tokens =
        magi::SpecialTokens::from(pipeline.tensor("special.caption_f64"), pipeline.tensor("special.logo_f64"),
                                  pipeline.tensor("special.other_tokens_f64"));
    std::ifstream stream(root / set / "text_rows.json");
    const auto cases = nlohmann::json::parse(stream);
    for (const auto& [name, c] : cases.items()) {
      INFO(set << " " << name);
      magi::TextSettings settings{.high_quality = false, .duration = false};
      for (const std::string on : c.at("settings")) {
        if (on == "PAD_STATIC") settings.static_first_frames = true;
        if (on == "PAD_DYNAMIC") settings.dynamic_first_frames = true;
        if (on == "PAD_BORDERNESS") settings.borders = true;
        if (on == "PAD_HQ") settings.high_quality = true;
        if (on == "PAD_THREE_D_MODEL") settings.three_d_model = true;
        if (on == "PAD_TWO_D_ANIME") settings.two_d_anime = true;
        if (on == "PAD_DURATION") settings.duration = true;
        if (on == "NEG_PROMPT") settings.negative = true;
      }
      const std::string caption = "caption_" + c.at("caption").get<std::string>();
      const int64_t length = pipeline.tensor(caption + "_mask").sum().item<int64_t>();
      const int chunks = c.at("chunk_num"), first = c.at("prefix_latent_frames").get<int>() / 6;
      const auto rows =
          magi::caption_rows(pipeline.tensor(caption).narrow(0, 0, length), tokens, settings, first, chunks, 800);
      const at::Tensor none = magi::null_rows(null_caption, tokens, settings);
      REQUIRE(static_cast<int>(rows.size()) == chunks - first);

      const at::Tensor head = io.tensor(name + ".y_head"), sums = io.tensor(name + ".mask_sum");
      const auto agrees = [&](const at::Tensor& value, int64_t kind, int chunk) {
        CHECK(value.size(0) == sums[kind][chunk].item<int64_t>());
        // The mask is 1 for exactly the first rows.
        const at::Tensor mask = io.tensor(name + ".mask_head")[kind][chunk];
        CHECK(mask.sum().item<int64_t>() == std::min<int64_t>(value.size(0), mask.size(0)));
        CHECK(value.narrow(0, 0, head.size(2)).equal(head[kind][chunk]));
      };
      for (int chunk = 0; chunk < chunks; ++chunk) {
        if (chunk < first)
          CHECK(sums[0][chunk].item<int>() == 0);
        else
          agrees(rows[chunk - first], 0, chunk);
        agrees(none, 1, chunk);
      }
    }
  }
}
