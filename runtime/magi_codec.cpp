#include "runtime/magi_codec.h"

#include "models/magi_vae/cost.h"
#include "models/magi_vae/tiled.h"
#include "models/wan_vae/cost.h"
#include "models/wan_vae/stream.h"
#include "runtime/magi_model.h"
#include "runtime/magi_recipe.h"
#include "runtime/random_model.h"

namespace longtake {
namespace {

class TiledCodec final : public MagiCodec {
 public:
  explicit TiledCodec(MagiVae vae) : vae_(std::move(vae)), tiling_(MagiTiling::of(vae_.config())) {}

  int64_t patch() const override { return vae_.config().patch_size; }
  at::Tensor encode(const at::Tensor& frames) const override { return encode_tiled(vae_, frames.unsqueeze(0), tiling_).squeeze(0); }
  std::unique_ptr<MagiDecoder> decoder() const override { return std::make_unique<Decoder>(*this); }

 private:
  // Pieces know nothing of each other.
  struct Decoder final : MagiDecoder {
    explicit Decoder(const TiledCodec& codec) : codec(codec) {}
    at::Tensor decode(const at::Tensor& latents) override { return decode_tiled(codec.vae_, latents.unsqueeze(0), codec.tiling_).squeeze(0); }
    void pass_over(const at::Tensor&) override {}
    const TiledCodec& codec;
  };

  MagiVae vae_;
  MagiTiling tiling_;
};

class WanCodec final : public MagiCodec {
 public:
  explicit WanCodec(WanVae vae) : vae_(std::move(vae)) {}

  int64_t patch() const override { return 8; }
  at::Tensor encode(const at::Tensor& frames) const override { return vae_.encode(frames.unsqueeze(0).to(vae_.device())).squeeze(0); }
  std::unique_ptr<MagiDecoder> decoder() const override { return std::make_unique<Decoder>(vae_); }

 private:
  struct Decoder final : MagiDecoder {
    explicit Decoder(const WanVae& vae) : stream(vae) {}
    at::Tensor decode(const at::Tensor& latents) override { return stream.push(latents.unsqueeze(0)).squeeze(0).to(at::kFloat); }
    void pass_over(const at::Tensor& latents) override { stream.push(latents.unsqueeze(0)); }
    VaeDecodeStream stream;
  };

  WanVae vae_;
};

}  // namespace

std::unique_ptr<MagiCodec> load_magi_codec(const ResolvedModel& model, const ModelTarget& target) {
  const ModelFiles& files = model.require_files();
  if (has_wan_vae(model.recipe)) return std::make_unique<WanCodec>(load_vae(files, target));
  return std::make_unique<TiledCodec>(load_magi_vae(files, target));
}

std::unique_ptr<MagiCodec> random_magi_codec(const Recipe& recipe, const ModelTarget& target, uint64_t seed) {
  if (has_wan_vae(recipe)) return std::make_unique<WanCodec>(random_vae(recipe, target, seed));
  return std::make_unique<TiledCodec>(random_magi_vae(recipe, target, seed));
}

double magi_codec_flops(const Recipe& recipe, int64_t height, int64_t width, int64_t frames) {
  if (has_wan_vae(recipe)) return vae_decode_flops(vae_sizes(recipe), height, width, frames);
  if (recipe.architecture.vae_dim == 0) return 0;
  const MagiVaeConfig config = magi_vae_config(recipe);
  return magi_vae_decode_flops(config, MagiTiling::of(config), height, width, frames);
}

}  // namespace longtake
