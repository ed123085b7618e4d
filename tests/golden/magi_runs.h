// Whole MAGI-1 runs of the golden sets: the model, its texts, and the noise that the reference started from.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/magi_denoise.h"
#include "runtime/magi_texts.h"
#include "tests/golden/golden.h"

namespace longtake::golden {

// Hands out given latents.
class GivenNoise final : public NoiseSource {
 public:
  explicit GivenNoise(at::Tensor latents) : latents_(std::move(latents)) {}
  at::Tensor latents(int, at::IntArrayRef shape) override {
    REQUIRE(latents_.sizes() == shape);
    return latents_.clone();
  }
  at::Tensor prefix(int, int, at::IntArrayRef) override {
    FAIL("MAGI-1's prefix takes no noise");
    return {};
  }

 private:
  at::Tensor latents_;
};

struct MagiModel {
  std::string set;
  Target target;
  magi::Config config;
  std::unique_ptr<magi::Transformer> transformer;

  MagiModel(const std::filesystem::path& root, const std::string& name, const Target& on)
      : set(name), target(on), config(magi::Config::read(root / name / "config.json")) {
    auto source = source_of(root / name / "dit.safetensors", target);
    transformer = std::make_unique<magi::Transformer>(source, config.model, config.engine.distilled);
  }

  // The model's configuration with the settings of a run.
  magi::Config configured(const nlohmann::json& run) const {
    magi::Config c = config;
    c.run.steps = run.at("num_steps");
    c.run.window = run.at("window_size");
    c.run.frames = run.at("num_frames");
    if (run.contains("shortcut_mode")) c.engine.shortcut_mode = run.at("shortcut_mode");
    if (run.contains("noise2clean_kvrange")) c.run.key_chunks = run.at("noise2clean_kvrange").get<std::vector<int>>();
    if (run.contains("clean_chunk_kvrange")) c.run.clean_key_chunks = run.at("clean_chunk_kvrange");
    return c;
  }

  magi::MagiBackbone backbone(const magi::VideoTexts& texts, const magi::VideoSize& size, int64_t height,
                              int64_t width, bool own_keys = false) const {
    return {*transformer, texts.branches(own_keys), texts.none(), magi::video_geometry(size, height, width)};
  }
};

}  // namespace longtake::golden
