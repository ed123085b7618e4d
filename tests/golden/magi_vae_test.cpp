// MAGI-1's VAE against the reference program's inputs and outputs on a small random model.
#include <ATen/core/grad_mode.h>
#include <fmt/core.h>

#include <cmath>
#include <limits>

#include "models/magi_vae/tiled.h"
#include "tests/golden/golden.h"

using namespace longtake;

namespace {

// LONGTAKE_GOLDEN/magi/vae, or empty where it is not there.
std::filesystem::path vae_folder() {
  const char* root = std::getenv("LONGTAKE_GOLDEN");
  if (!root) return {};
  const auto folder = std::filesystem::path(root) / "magi" / "vae";
  return std::filesystem::is_directory(folder) ? folder : std::filesystem::path();
}

// Norm of the difference over the reference's norm, printed with how much of the tolerance it is.
bool within(const std::string& name, const at::Tensor& value, const at::Tensor& reference, double tolerance) {
  double error = std::numeric_limits<double>::infinity();
  if (value.sizes() == reference.sizes()) {
    const at::Tensor a = value.to(at::kCPU, at::kDouble), b = reference.to(at::kDouble);
    error = (a - b).norm().item<double>() / b.norm().item<double>();
  }
  fmt::print("  {:<44} error {:.2e}, tolerance {:.0e} ({:.1f} % used)\n", name, error, tolerance,
             100 * error / tolerance);
  return error <= tolerance;
}

at::Tensor video_of(const Checkpoint& io, const std::string& name, at::Device device) {
  return (io.tensor(name).to(at::kFloat) / 127.5 - 1).to(device);
}

}  // namespace

TEST_CASE("MAGI-1's VAE agrees with the reference", "[golden]") {
  const auto root = vae_folder();
  if (root.empty()) LONGTAKE_SKIP("LONGTAKE_GOLDEN is unset or has no folder magi/vae: golden tests skipped");
  at::NoGradGuard no_grad;
  const MagiVaeConfig config = read_magi_vae_config(root);
  const Checkpoint io = Checkpoint::open(root / "vae_io.safetensors");
  const MagiTiling tiling = MagiTiling::of(config);
  CHECK(tiling.size == 8);
  CHECK(tiling.overlap == 2);

  for (const golden::Target& target : golden::targets()) {
    CheckpointSource source = golden::source_of(root / "vae.safetensors", target);
    const MagiVae vae(source, config);
    CHECK(source.unused().empty());
    const double tolerance = target.tolerance(1e-5, 5e-2);
    const auto check = [&](const std::string& name, const at::Tensor& value) {
      CHECK(within("magi_vae " + name + target.name(), value, io.tensor(name), tolerance));
    };
    const auto video = [&](const std::string& name) { return video_of(io, name, target.device); };
    const auto latents = [&](const std::string& name) { return io.tensor(name).to(target.device); };

    check("moments", vae.encode_moments(video("video")));
    check("mean", vae.encode_mean(video("video")));
    check("latent", vae.encode(video("video")));
    check("mean_match", vae.encode_mean(video("video_match")));
    check("image_mean", vae.encode_mean(video("image")));
    check("recon", vae.decode_mean(latents("z")));
    check("recon_match", vae.decode_mean(latents("z_match")));
    check("recon_image", vae.decode_mean(latents("z_image"), MagiClip::still));
    check("mean_tiled", encode_mean_tiled(vae, video("video_tiled"), tiling));
    check("latent_tiled", encode_tiled(vae, video("video_tiled"), tiling));

    // The fourth latent frame is a tile of its own: four frames here, one in the reference.
    const at::Tensor tiled = decode_mean_tiled(vae, latents("z_tiled"), tiling);
    CHECK(tiled.size(2) == 16);
    CHECK(within("magi_vae recon_tiled, first 12 frames" + target.name(), tiled.narrow(2, 0, 12),
                 io.tensor("recon_tiled").narrow(2, 0, 12), tolerance));
    CheckpointSource again = golden::source_of(root / "vae.safetensors", target);
    const MagiVae as_reference(again, config, {.lone_latent_still = true});
    check("recon_tiled", decode_mean_tiled(as_reference, latents("z_tiled"), tiling));
  }
}

TEST_CASE("MAGI-1's VAE with bfloat16 q, k and v agrees with the reference", "[golden]") {
  const auto root = vae_folder();
  if (root.empty()) LONGTAKE_SKIP("LONGTAKE_GOLDEN is unset or has no folder magi/vae: golden tests skipped");
  at::NoGradGuard no_grad;
  const MagiVaeConfig config = read_magi_vae_config(root);
  const Checkpoint io = Checkpoint::open(root / "vae_io.safetensors");
  CheckpointSource source = golden::source_of(root / "vae.safetensors", {});
  const MagiVae vae(source, config, {.round_qkv = true});
  // Of the values that are rounded a few lie in the middle between two, where the last bit of float32 decides; each
  // that goes the other way moves the result by about 1e-5.
  CHECK(within("magi_vae mean_qkv_bf16", vae.encode_mean(video_of(io, "video", at::kCPU)), io.tensor("mean_qkv_bf16"),
               5e-5));
  CHECK(within("magi_vae recon_qkv_bf16", vae.decode_mean(io.tensor("z")), io.tensor("recon_qkv_bf16"), 1e-5));
  // Made in the same way as these two, unlike the other reconstructions.
  CHECK(within("magi_vae recon_of_latent", vae.decode(io.tensor("latent")), io.tensor("recon_of_latent"), 1e-5));
}

TEST_CASE("MAGI-1's frames convert to uint8 as the reference's do", "[golden]") {
  const auto root = vae_folder();
  if (root.empty()) LONGTAKE_SKIP("LONGTAKE_GOLDEN is unset or has no folder magi/vae: golden tests skipped");
  const Checkpoint io = Checkpoint::open(root / "vae_io.safetensors");
  CHECK(magi_video_to_uint8(io.tensor("recon_of_latent")).equal(io.tensor("recon_of_latent_u8")));
}
