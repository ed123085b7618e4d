#include "models/wan_vae/wan_vae.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include "models/wan_vae/cost.h"
#include "models/wan_vae/latent_stats.h"
#include "models/wan_vae/stream.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/safetensors.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/errors.h"
#include "tests/models/random_source.h"
#include "tests/models/vae_checks.h"
#include "tests/models/weights_files.h"

using namespace longtake;
using namespace longtake::test;
using Catch::Matchers::ContainsSubstring;

namespace {

const VaeSizes kSmall = make_vae_sizes(8, {1, 2, 4, 4}, 1, {false, true, true});

WanVae small_vae(at::ScalarType dtype = at::kFloat, const at::Device& device = at::kCPU) {
  std::map<std::string, at::Tensor> weights = random_weights(list_vae_weights(kSmall));
  for (auto& [name, tensor] : weights) tensor = tensor.to(device);
  MapSource source(weights, dtype);
  return WanVae(source);
}

}  // namespace

TEST_CASE("Wan VAE: sizes come from the weights") {
  const VaeSizes real = make_vae_sizes(96, {1, 2, 4, 4}, 2, {false, true, true});
  const NamedShapes weights = list_vae_weights(real);
  CHECK(weights.size() == 194);
  int64_t parameters = 0;
  for (const auto& [name, shape] : weights) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    parameters += count;
  }
  CHECK(parameters == 126'892'531);

  MapSource source(random_weights(list_vae_weights(kSmall)));
  CHECK(list_vae_weights(read_vae_sizes(source)) == list_vae_weights(kSmall));
  CHECK(read_vae_sizes(source).spatial_factor() == 8);
  CHECK(read_vae_sizes(source).temporal_factor() == 4);
}

TEST_CASE("Wan VAE: floating-point operations of the released model") {
  const VaeSizes real = make_vae_sizes(96, {1, 2, 4, 4}, 2, {false, true, true});
  const auto near = [](double value, double wanted) { return std::abs(value / wanted - 1) < 0.02; };
  CHECK(near(vae_decode_flops(real, 544, 960, 97), 432e12));
  CHECK(near(vae_encode_flops(real, 544, 960, 97), 257e12));
  CHECK(near(vae_encode_flops(real, 544, 960, 17), 46e12));
  CHECK(near(vae_decode_flops(real, 720, 1280, 121), 954e12));
  CHECK(near(vae_encode_flops(real, 720, 1280, 121), 569e12));
}

TEST_CASE("Wan VAE: any chunking decodes to the same frames") {
  at::NoGradGuard no_grad;
  const WanVae vae = small_vae();
  const at::Tensor latents = random({2, 16, 5, 3, 4});
  const at::Tensor whole = vae.decode(latents);
  REQUIRE(whole.sizes() == at::IntArrayRef({2, 3, 17, 24, 32}));
  CHECK(difference(vae.decode_raw(latents).clamp(-1, 1), whole) == 0);
  CHECK(difference(vae.decode_raw(latents), whole) > 0.01);  // the clamp has work to do
  // Samples of a batch do not mix.
  CHECK(difference(vae.decode(latents.narrow(0, 1, 1)), whole.narrow(0, 1, 1)) < 1e-5);
  for (const std::vector<int64_t>& chunks :
       std::vector<std::vector<int64_t>>{{5}, {1, 4}, {1, 1, 1, 1, 1}, {2, 3}, {3, 1, 1}}) {
    VaeDecodeStream stream(vae);
    std::vector<at::Tensor> frames;
    int64_t begin = 0;
    for (const int64_t count : chunks) {
      frames.push_back(stream.push(latents.narrow(2, begin, count)));
      CHECK(frames.back().size(2) == (begin == 0 ? 4 * count - 3 : 4 * count));
      begin += count;
    }
    CHECK(stream.latents() == 5);
    CHECK(difference(at::cat(frames, 2), whole) < 1e-5);
  }
}

TEST_CASE("Wan VAE: any chunking encodes to the same latents") {
  at::NoGradGuard no_grad;
  const WanVae vae = small_vae();
  const at::Tensor video = random_video({2, 3, 17, 16, 24});
  const at::Tensor whole = vae.encode(video);
  REQUIRE(whole.sizes() == at::IntArrayRef({2, 16, 5, 2, 3}));
  CHECK(whole.scalar_type() == at::kFloat);
  const at::Tensor extra = random_video({2, 3, 2, 16, 24});
  for (const std::vector<int64_t>& chunks :
       std::vector<std::vector<int64_t>>{{17}, {1, 16}, {3, 5, 9}, {2, 2, 2, 2, 2, 2, 2, 2, 1}}) {
    VaeEncodeStream stream(vae);
    std::vector<at::Tensor> latents;
    int64_t begin = 0;
    for (const int64_t count : chunks) {
      latents.push_back(stream.push(video.narrow(2, begin, count)));
      begin += count;
      CHECK(stream.pending() == (begin - 1) % 4);
    }
    CHECK(difference(at::cat(latents, 2), whole) < 1e-5);
    // Frames that fill no group wait and give no latent.
    CHECK(stream.push(extra).sizes() == at::IntArrayRef({2, 16, 0, 2, 3}));
    CHECK(stream.pending() == 2);
  }
}

TEST_CASE("Wan VAE: prefixes stand on their own") {
  at::NoGradGuard no_grad;
  const WanVae vae = small_vae();
  const at::Tensor video = random_video({1, 3, 13, 16, 16});
  const at::Tensor latents = vae.encode(video);
  CHECK(difference(vae.encode(video.narrow(2, 0, 1)), latents.narrow(2, 0, 1)) < 1e-5);
  CHECK(difference(vae.encode(video.narrow(2, 0, 9)), latents.narrow(2, 0, 3)) < 1e-5);
  const at::Tensor frames = vae.decode(latents);
  CHECK(difference(vae.decode(latents.narrow(2, 0, 1)), frames.narrow(2, 0, 1)) < 1e-5);
  CHECK(difference(vae.decode(latents.narrow(2, 0, 3)), frames.narrow(2, 0, 9)) < 1e-5);
  // Later frames do depend on what came before.
  CHECK(difference(vae.decode(latents.narrow(2, 1, 3)), frames.narrow(2, 0, 9)) > 1e-2);
}

TEST_CASE("Wan VAE: a copy of a stream is a snapshot") {
  at::NoGradGuard no_grad;
  const WanVae vae = small_vae();
  const at::Tensor latents = random({1, 16, 4, 2, 2});
  VaeDecodeStream stream(vae);
  stream.push(latents.narrow(2, 0, 2));
  VaeDecodeStream copy = stream;
  const at::Tensor rest = stream.push(latents.narrow(2, 2, 2));
  copy.push(random({1, 16, 1, 2, 2}, 9));
  CHECK(difference(rest, vae.decode(latents).narrow(2, 5, 8)) < 1e-5);
}

TEST_CASE("Wan VAE: latents are normalised with the Wan statistics") {
  at::NoGradGuard no_grad;
  const WanVae vae = small_vae();
  const at::Tensor video = random_video({1, 3, 5, 16, 16});
  const at::Tensor moments = vae.encode_moments(video);
  REQUIRE(moments.sizes() == at::IntArrayRef({1, 32, 2, 2, 2}));
  const at::Tensor latents = vae.encode(video);
  for (const int64_t channel : {0, 7, 15}) {
    const float mean = moments[0][channel][1][0][1].item<float>(), latent = latents[0][channel][1][0][1].item<float>();
    CHECK(std::abs((mean - kWanLatentMean[channel]) / kWanLatentDeviation[channel] - latent) < 1e-6);
  }
  CHECK(difference(vae.denormalise(latents), moments.narrow(1, 0, 16)) < 1e-5);
}

TEST_CASE("Wan VAE: bfloat16 stays close to float32, whole and streamed") {
  at::NoGradGuard no_grad;
  for (const at::Device& device : test_devices()) {
    const WanVae vae = small_vae(at::kFloat, device), half = small_vae(at::kBFloat16, device);
    const at::Tensor video = random_video({1, 3, 9, 16, 16});
    const at::Tensor latents = random({1, 16, 3, 2, 2});
    CHECK(half.dtype() == at::kBFloat16);
    CHECK(half.encode(video).scalar_type() == at::kFloat);
    CHECK(half.decode(latents).scalar_type() == at::kBFloat16);
    VaeDecodeStream stream(half);
    const at::Tensor streamed = at::cat({stream.push(latents.narrow(2, 0, 1)), stream.push(latents.narrow(2, 1, 2))}, 2);
    const double encoded = relative_error(half.encode_moments(video), vae.encode_moments(video)),
                 decoded = relative_error(half.decode_raw(latents), vae.decode_raw(latents)),
                 pushed = relative_error(streamed, vae.decode(latents));
    fmt::print("VAE in bfloat16 against float32 on {}, relative: encoded {:.1e}, decoded {:.1e}, streamed {:.1e}\n", device.str(), encoded, decoded,
               pushed);
    for (const double error : {encoded, decoded, pushed}) CHECK(error < 0.03);
  }
}

// Of a pixel, where the network's activations are rounded to 8 bits: what a bfloat16 stream may differ by from the whole clip, whose convolutions
// may sum in another order.
TEST_CASE("Wan VAE: in bfloat16 any chunking decodes to the same frames, to rounding") {
  at::NoGradGuard no_grad;
  for (const at::Device& device : test_devices()) {
    const WanVae vae = small_vae(at::kBFloat16, device);
    const at::Tensor latents = random({2, 16, 5, 3, 4});
    const at::Tensor whole = vae.decode(latents);
    for (const std::vector<int64_t>& chunks : std::vector<std::vector<int64_t>>{{5}, {1, 4}, {1, 1, 1, 1, 1}, {2, 3}}) {
      VaeDecodeStream stream(vae);
      std::vector<at::Tensor> frames;
      int64_t begin = 0;
      for (const int64_t count : chunks) {
        frames.push_back(stream.push(latents.narrow(2, begin, count)));
        begin += count;
      }
      const double differs = difference(at::cat(frames, 2), whole), relative = relative_error(at::cat(frames, 2), whole);
      fmt::print("VAE in bfloat16 on {}, {} pushes against the whole clip: {:.1e} at most, {:.1e} relative\n", device.str(), chunks.size(), differs,
                 relative);
      CHECK(relative < 0.02);
      if (chunks.size() == 1) CHECK(differs == 0);
    }
  }
}

TEST_CASE("Wan VAE: gradients reach every weight and agree with differences") {
  std::map<std::string, at::Tensor> weights = random_weights(list_vae_weights(kSmall));
  for (auto& [name, tensor] : weights) tensor.requires_grad_(true);
  MapSource source(weights);
  const WanVae vae(source);
  const at::Tensor video = random_video({1, 3, 9, 16, 16});
  const at::Tensor target = random({1, 3, 9, 16, 16}, 3);
  const auto loss = [&] {
    const at::Tensor moments = vae.encode_moments(video);
    const at::Tensor latents = vae.normalise(moments.narrow(1, 0, 16));
    return (vae.decode_raw(latents) * target).mean() + 0.01 * moments.narrow(1, 16, 16).pow(2).mean();
  };
  loss().backward();
  check_gradients(weights);
  // The derivative along each tensor's own gradient, scaled to a change in the loss far above rounding.
  at::NoGradGuard no_grad;
  for (const std::string name :
       {"encoder.conv1.weight", "encoder.downsamples.5.time_conv.weight", "encoder.middle.1.to_qkv.weight",
        "decoder.upsamples.2.time_conv.weight", "decoder.upsamples.0.residual.3.gamma", "decoder.head.2.bias"}) {
    INFO(name);
    at::Tensor& weight = weights[name];
    const at::Tensor gradient = weight.grad();
    const double square = gradient.pow(2).sum().item<double>();
    const double step = 1e-3 / std::sqrt(square) * weight.norm().item<double>();
    weight.add_(gradient, step);
    const double above = loss().item<double>();
    weight.add_(gradient, -2 * step);
    const double below = loss().item<double>();
    weight.add_(gradient, step);
    CHECK(std::abs((above - below) / (2 * step * square) - 1) < 0.05);
  }
}

TEST_CASE("Wan VAE: the memory estimate holds") {
  at::NoGradGuard no_grad;
  const VaeSizes sizes = make_vae_sizes(16, {1, 2, 4, 4}, 1, {false, true, true});
  MapSource source(random_weights(list_vae_weights(sizes)));
  const WanVae vae(source);
  for (const int64_t count : {1, 2}) {
    VaeDecodeStream decoder(vae);
    VaeEncodeStream encoder(vae);
    const auto meter = std::make_shared<PeakMemory>();
    const int64_t frames = 4 * count;
    // Made before, so that they do not count.
    const at::Tensor latents = random({1, 16, 1 + 2 * count, 8, 8}),
                     video = random_video({1, 3, 1 + 2 * frames, 64, 64});
    {
      const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
      decoder.push(latents.narrow(2, 0, 1));
      decoder.push(latents.narrow(2, 1, count));
      decoder.push(latents.narrow(2, 1 + count, count));
    }
    CHECK(static_cast<double>(meter->now) == Approx(vae_decode_history_bytes(sizes, 64, 64, 4)).epsilon(0.02));
    const auto ratio = [&](int64_t estimate) {
      return static_cast<double>(meter->peak) / static_cast<double>(estimate);
    };
    CAPTURE(count, meter->peak);
    const double decode = ratio(vae_decode_peak_bytes(sizes, 64, 64, 1 + 2 * count, count, 4));
    CHECK(decode < 1.1);
    CHECK(decode > 0.8);
    meter->now = meter->peak = 0;
    {
      const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
      encoder.push(video.narrow(2, 0, 1));
      encoder.push(video.narrow(2, 1, frames));
      encoder.push(video.narrow(2, 1 + frames, frames));
    }
    const double encode = ratio(vae_encode_peak_bytes(sizes, 64, 64, count, 4));
    CHECK(encode < 1.4);  // oneDNN may repack a convolution's input and output, which the estimate leaves out
    CHECK(encode > 0.8);
  }
}

TEST_CASE("Wan VAE: misshapen input is refused with what fits") {
  at::NoGradGuard no_grad;
  const WanVae vae = small_vae();
  CHECK_THROWS_WITH(vae.encode(at::zeros({1, 3, 8, 16, 16})), ContainsSubstring("this one has 8; give 5 or 9"));
  CHECK_THROWS_WITH(vae.encode(at::zeros({1, 3, 2, 16, 16})), ContainsSubstring("give 1 or 5"));
  CHECK_THROWS_WITH(vae.encode(at::zeros({1, 3, 1, 30, 21})),
                    ContainsSubstring("21x30") && ContainsSubstring("resize it to 24x32"));
  CHECK_THROWS_WITH(vae.encode(at::zeros({3, 1, 16, 16})), ContainsSubstring("[batch, 3, frames, height, width]"));
  CHECK_THROWS_WITH(vae.encode(at::zeros({1, 4, 1, 16, 16})), ContainsSubstring("1x4x1x16x16"));
  CHECK_THROWS_WITH(vae.encode(at::zeros({1, 3, 1, 16, 16}, at::kByte)), ContainsSubstring("Byte"));
  CHECK_THROWS_WITH(vae.decode(at::zeros({1, 8, 1, 2, 2})), ContainsSubstring("1x8x1x2x2"));
  CHECK_THROWS_WITH(vae.decode(at::zeros({1, 16, 0, 2, 2})), ContainsSubstring("1x16x0x2x2"));

  VaeDecodeStream decoder(vae);
  decoder.push(at::zeros({1, 16, 1, 2, 2}));
  CHECK_THROWS_WITH(decoder.push(at::zeros({1, 16, 1, 2, 3})),
                    ContainsSubstring("1x2x2") && ContainsSubstring("1x2x3"));
  VaeEncodeStream encoder(vae);
  encoder.push(at::zeros({1, 3, 2, 16, 16}));
  CHECK_THROWS_WITH(encoder.push(at::zeros({2, 3, 2, 16, 16})), ContainsSubstring("1x16x16"));
}

TEST_CASE("Wan VAE: a wrong checkpoint is refused by the tensor's name") {
  const TempFolder folder;
  const auto message = [&](const std::function<void(std::map<std::string, at::Tensor>&)>& spoil) -> std::string {
    std::map<std::string, at::Tensor> weights = random_weights(list_vae_weights(kSmall));
    spoil(weights);
    save_safetensors(folder / "vae.safetensors", weights);
    CheckpointSource source(Checkpoint::open(folder / "vae.safetensors"), {}, at::kCPU, at::kFloat);
    try {
      const WanVae vae(source);
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::bad_file);
      return error.what();
    }
    return "";
  };
  CHECK(message([](auto&) {}).empty());
  for (const auto& [name, shape] : list_vae_weights(kSmall)) {
    INFO(name);
    // One more row: either the tensor itself or the neighbour that no longer fits it is named.
    std::vector<int64_t> longer = shape;
    longer[0] += 1;
    // (conv2 gives the number of latent channels, which the encoder's end then contradicts.)
    const std::string part = name == "conv2.weight" ? "encoder.head" : name.substr(0, name.find('.'));
    CHECK_THAT(message([&](auto& weights) { weights[name] = at::zeros(longer); }), ContainsSubstring(part));
  }
  CHECK_THAT(message([](auto& w) { w.erase("decoder.middle.1.proj.bias"); }),
             ContainsSubstring("decoder.middle.1.proj.bias"));
  CHECK_THAT(message([](auto& w) { w.erase("conv2.weight"); }), ContainsSubstring("conv2.weight"));
  CHECK_THAT(message([](auto& w) {
               w["encoder.conv1.weight"] = at::zeros({8, 3});
             }),
             ContainsSubstring("encoder.conv1.weight"));
  CHECK_THAT(message([](auto& w) {
               w["decoder.upsamples.0.residual.6.weight"] = at::zeros({32, 32, 3, 3});
             }),
             ContainsSubstring("decoder.upsamples.0.residual.6.weight"));
  CHECK_THAT(message([](auto& w) { w.erase("decoder.upsamples.2.time_conv.weight"); }),
             ContainsSubstring("decoder multiplies"));

  MapSource other(random_weights(list_vae_weights(make_vae_sizes(8, {1, 2, 4, 4}, 1, {false, true, true}, 4))));
  CHECK_THROWS_WITH(WanVae(other), ContainsSubstring("4 latent channels"));
}
