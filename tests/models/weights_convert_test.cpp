#include "models/weights/convert.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>

#include "base/error.h"
#include "models/weights/safetensors.h"
#include "tests/catch.h"
#include "tests/models/weights_files.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using test::TempFolder;

TEST_CASE("convert: dtype and naming, there and back") {
  const TempFolder folder;
  const auto start = folder / "dit.safetensors", there = folder / "d.safetensors", back = folder / "o.safetensors";
  const std::map<std::string, at::Tensor> tensors{
      {"head.head.weight", at::randn({4, 2})},
      {"head.modulation", at::randn({1, 2, 2})},
      {"blocks.0.norm3.weight", at::randn({2})},
      {"blocks.0.cross_attn.k.weight", at::randn({2, 2})},
      {"blocks.0.cross_attn.k_img.weight", at::randn({2, 2})},
      {"counter", at::arange(3)},
  };
  save_safetensors(start, tensors, {{"made", "by hand"}});

  uint64_t last_done = 0, last_total = 0;
  ConvertOptions options{at::kBFloat16, Layout::diffusers, [&](const std::string&, uint64_t done, uint64_t total) {
                           CHECK(done > last_done);
                           last_done = done;
                           last_total = total;
                         }};
  const ConvertSummary summary = convert_checkpoint(Checkpoint::open(start), there, options);
  CHECK(summary.kind == ModelKind::dit);
  CHECK(summary.tensors == 6);
  CHECK(summary.bytes_read == 4 * (8 + 4 + 2 + 4 + 4) + 24);
  CHECK(summary.bytes_written == 2 * (8 + 4 + 2 + 4 + 4) + 24);
  CHECK(last_done == summary.bytes_written);
  CHECK(last_total == summary.bytes_written);

  const SafetensorsFile file(there);
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}, {"made", "by hand"}});
  CHECK(at::equal(file.tensor("blocks.0.norm2.weight"), tensors.at("blocks.0.norm3.weight").to(at::kBFloat16)));
  CHECK(at::equal(file.tensor("blocks.0.attn2.add_k_proj.weight"),
                  tensors.at("blocks.0.cross_attn.k_img.weight").to(at::kBFloat16)));
  CHECK(at::equal(file.tensor("scale_shift_table"), tensors.at("head.modulation").to(at::kBFloat16)));
  CHECK(file.tensor("counter").scalar_type() == at::kLong);

  convert_checkpoint(Checkpoint::open(there), back, {at::kFloat, Layout::original, {}});
  const SafetensorsFile again(back);
  CHECK(again.tensors().size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    CHECK(at::equal(again.tensor(name).to(at::kFloat), tensor.to(at::kBFloat16).to(at::kFloat)));
  }

  // In place, and with nothing to change.
  convert_checkpoint(Checkpoint::open(back), back, {});
  CHECK(SafetensorsFile(back).tensors().size() == tensors.size());
}

TEST_CASE("convert: a .pth file, strides and all") {
  const TempFolder folder;
  const auto pickle = std::filesystem::path(LONGTAKE_SOURCE_DIR) / "tests/data/pickle/strided.pth";
  const Checkpoint source = Checkpoint::open(pickle);
  const ConvertSummary summary = convert_checkpoint(source, folder / "s.safetensors", {});
  CHECK(summary.kind == ModelKind::other);
  const SafetensorsFile file(folder / "s.safetensors");
  CHECK(file.tensors().size() == 3);
  for (const std::string& name : source.names()) CHECK(at::equal(file.tensor(name), source.tensor(name)));
}

TEST_CASE("convert: UMT5's tied embedding is stored once") {
  const TempFolder folder;
  const auto in = folder / "in.safetensors", out = folder / "out.safetensors";
  const auto names_after = [&](const std::map<std::string, at::Tensor>& tensors, Layout layout) {
    save_safetensors(in, tensors);
    convert_checkpoint(Checkpoint::open(in), out, {{}, layout, {}});
    return Checkpoint::open(out).names();
  };
  const std::vector<std::string> original{"token_embedding.weight"};
  const at::Tensor one = at::ones({2, 2});
  CHECK(names_after({{"shared.weight", one}}, Layout::original) == original);
  CHECK(names_after({{"encoder.embed_tokens.weight", one}}, Layout::original) == original);
  CHECK(names_after({{"shared.weight", one}, {"encoder.embed_tokens.weight", one}}, Layout::original) == original);
  CHECK(names_after({{"token_embedding.weight", one}}, Layout::diffusers) == std::vector<std::string>{"shared.weight"});
}

TEST_CASE("convert: what cannot be done is said") {
  const TempFolder folder;
  const auto in = folder / "in.safetensors", out = folder / "out.safetensors";
  save_safetensors(in, {{"w", at::full({2}, 1e5)}});
  const Checkpoint checkpoint = Checkpoint::open(in);
  CHECK_THROWS_WITH(convert_checkpoint(checkpoint, out, {{}, Layout::diffusers, {}}),
                    ContainsSubstring("can be renamed"));
  CHECK_THROWS_WITH(convert_checkpoint(checkpoint, out, {at::kDouble, {}, {}}), ContainsSubstring("not as Double"));
  CHECK_THROWS_WITH(convert_checkpoint(checkpoint, out, {at::kHalf, {}, {}}),
                    ContainsSubstring("'w' holds values beyond"));
  CHECK_FALSE(std::filesystem::exists(out));
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);

  save_safetensors(in, {{"head.head.weight", at::ones({1})}, {"proj_out.weight", at::ones({1})}});
  CHECK_THROWS_WITH(convert_checkpoint(Checkpoint::open(in), out, {{}, Layout::diffusers, {}}),
                    ContainsSubstring("would both be named 'proj_out.weight'"));
}
