// bench_kernels [ops] [row] [fp8] [attention] [plans] [vae]: SkyReels-V2-DF-1.3B's operations and whole rows at 544x960 on the first GPU, with
// random weights.
//
//   ops    each operation of a full row and of a row of 70 % columns: time, share of the ceiling, share of a layer
//   row    whole rows: fused and plain, full and columns, their difference, and whether the host ever waits
//   fp8    whole rows with products in fp8: attention in bf16, in fp8, and in fp8 in the first and the last block too; how far each is from a row
//          in bf16, and what plans cost
//   attention  a row's attention, our kernel's and cuDNN's in turns, each for seconds, so that the GPU is as warm as in a video
//   plans  what cuDNN's plans for new shapes of attention cost, by the way that they are made
//   vae    decoding 97 frames as a stream, in float32 and in bfloat16, and their difference
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/cuda/CUDAFunctions.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "attention/planned_attention.h"
#include "base/cuda.h"
#include "base/error.h"
#include "models/ops/bench_ops.h"
#include "models/skyreels/backbone.h"
#include "models/wan_vae/cost.h"
#include "models/wan_vae/stream.h"
#include "models/wan_vae/wan_vae.h"
#include "models/weights/random_source.h"
#include "models/weights/source.h"
#include "tools/kernels/attention.h"
#include "tools/kernels/timing.h"

using namespace longtake;
using namespace longtake::bench;

namespace {

void time_ops(const char* title, const BenchSizes& sizes) {
  const std::vector<BenchOp> ops = bench_ops(sizes, kGpu, at::kBFloat16);
  std::vector<double> times;
  double layer = 0;
  for (const BenchOp& op : ops) {
    times.push_back(median_ms(op.run));
    layer += times.back() * op.in_layer;
  }
  std::printf("\n%s: %lld packed tokens; one layer %.2f ms, 30 layers %.1f ms\n", title,
              static_cast<long long>(sizes.rows()), layer, 30 * layer);
  std::printf("  %-34s %9s %8s %8s %7s\n", "", "ms", "TB/s", "TFLOP/s", "share");
  for (size_t i = 0; i < ops.size(); ++i)
    std::printf("  %-34s %9.4f %8.2f %8.1f %6.1f%%\n", ops[i].name.c_str(), times[i], ops[i].bytes / times[i] / 1e9,
                ops[i].flops / times[i] / 1e9, 100 * times[i] * ops[i].in_layer / layer);
}

// Weights that keep the size of what passes; gains near 1.
class SimpleSource : public WeightSource {
 public:
  bool has(const std::string&) const override { return true; }
  std::vector<int64_t> shape(const std::string& name) const override {
    fail(ExitCode::internal, "{} has no stored shape", name);
  }
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) override {
    const auto options = at::TensorOptions().dtype(at::kBFloat16).device(kGpu);
    const bool gain = shape.size() == 1 && name.ends_with(".weight");
    int64_t fan_in = 1;
    for (size_t i = 1; i < shape.size(); ++i) fan_in *= shape[i];
    const double scale = shape.size() == 1 ? 0.1 : 1 / std::sqrt(static_cast<double>(fan_in));
    return (at::randn(shape, options) * scale + (gain ? 1 : 0)).to(at::kBFloat16);
  }
};

struct Window {
  static constexpr int kChunks = 5, kBranches = 2;
  static constexpr int64_t kFrames = 5;
  SimpleSource source;
  skyreels::Transformer transformer;
  skyreels::TextKv cond, uncond;
  PlannedAttention attention{kGpu};
  std::unique_ptr<skyreels::SkyReelsBackbone> backbone;
  std::vector<at::Tensor> embedded;

  static skyreels::TransformerConfig config() {
    return {.dim = 1536,
            .ffn_dim = 8960,
            .layers = 30,
            .heads = 12,
            .in_channels = 16,
            .out_channels = 16,
            .text_dim = 4096,
            .freq_dim = 256,
            .fps_embedding = true};
  }
  Window() : transformer(source, config()) {
    const auto typed = at::TensorOptions().dtype(at::kBFloat16).device(kGpu);
    cond = skyreels::prepare_text(transformer, at::randn({512, 4096}, typed));
    uncond = skyreels::prepare_text(transformer, at::randn({512, 4096}, typed));
    bind({});
    for (int c = 0; c < kChunks; ++c)
      embedded.push_back(backbone->embed(at::randn({16, kFrames, 68, 120}, typed.dtype(at::kFloat))));
  }

  void bind(skyreels::RowAttention row_attention) {
    WindowGeometry geometry;
    for (int c = 0; c < kChunks; ++c) geometry.chunks.push_back({c * kFrames, kFrames});
    geometry.latent_height = 68;
    geometry.latent_width = 120;
    backbone = std::make_unique<skyreels::SkyReelsBackbone>(
        transformer, std::vector<const skyreels::TextKv*>{&cond, &uncond}, geometry, 1, std::vector<const skyreels::TextKv*>{}, row_attention);
  }

  std::vector<at::Tensor> row(const TokenSet& tokens, KvCache& kv) const {
    const double timesteps[] = {337, 565, 716, 817, 888};
    std::vector<WorkItem> items;
    std::vector<at::Tensor> inputs;
    for (int b = 0; b < kBranches; ++b)
      for (int c = 0; c < kChunks; ++c) {
        const WindowGeometry& g = backbone->geometry();
        items.push_back(
            {c, b, tokens, std::vector<double>(kFrames, timesteps[c]), {0, g.start(c) + g.chunk_tokens(c)}});
        inputs.push_back(embedded[c]);
      }
    return backbone->forward(items, inputs, kv);
  }
};

// Time of rows on the device and of handing them over on the host; copies and reads that wait for the device are
// errors.
std::vector<at::Tensor> time_row(const char* name, const Window& window, const TokenSet& tokens, KvCache& kv,
                                 int repeats, bool may_wait) {
  std::vector<at::Tensor> out = window.row(tokens, kv);
  out.clear();
  if (!may_wait) c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_ERROR);
  double best = 1e30, host = 1e30;
  for (int i = 0; i < repeats; ++i) {
    out.clear();
    c10::impl::VirtualGuardImpl(at::kCUDA).synchronizeDevice(0);
    double handed_over = 0;
    const double ms = timed([&] {
      const double begin = seconds_now();
      out = window.row(tokens, kv);
      handed_over = seconds_now() - begin;
    });
    best = std::min(best, ms);
    host = std::min(host, 1e3 * handed_over);
  }
  c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_DISABLED);
  double flops = 0;
  for (int c = 0; c < Window::kChunks; ++c)
    flops += Window::kBranches *
             window.backbone->flops(tokens.count(Window::kFrames, 2040), (c + 1) * Window::kFrames * 2040);
  std::printf("  %-34s %9.1f ms on the device, %7.1f ms on the host, %6.1f TFLOP/s\n", name, best, host,
              flops / best / 1e9);
  return out;
}

void time_rows() {
  Window window;
  KvCache kv(window.backbone->kv_shape(), at::kBFloat16, kGpu);
  const at::Tensor order = at::randperm(2040, at::TensorOptions().dtype(at::kLong).device(kGpu));
  const TokenSet columns = TokenSet::columns(std::get<0>(order.narrow(0, 0, 1428).sort()));
  const TokenSet every = TokenSet::columns(at::arange(2040, at::TensorOptions().dtype(at::kLong).device(kGpu)));
  std::printf("\nrows of five chunks and two branches\n");
  const auto plain = time_row("plain, full", window, TokenSet::all(), kv, 1, true);
  const auto plain_columns = time_row("plain, 70 % columns", window, columns, kv, 1, true);
  window.transformer.merge_projections();
  const auto by_aten = time_row("fused, full, attention through ATen", window, TokenSet::all(), kv, 3, false);
  const std::string& why = window.attention.try_out(at::kBFloat16, 12, 128);
  if (!why.empty()) std::printf("  plans refused: %s\n", why.c_str());
  window.bind({&window.attention, false});
  const auto fused = time_row("fused, full", window, TokenSet::all(), kv, 3, false);
  std::printf("  our plans against ATen's: relative difference %.2e\n", relative_error(fused, by_aten));
  std::printf("  fused against plain, full: relative difference %.2e\n", relative_error(fused, plain));
  const auto all_columns = time_row("fused, all columns", window, every, kv, 1, false);
  bool same = true;
  for (size_t i = 0; i < fused.size(); ++i) same = same && at::equal(all_columns[i], fused[i]);
  std::printf("  all columns and the full row are %s\n", same ? "equal bit for bit" : "NOT EQUAL");
  const auto fused_columns = time_row("fused, 70 % columns", window, columns, kv, 3, false);
  std::printf("  fused against plain, columns: relative difference %.2e\n",
              relative_error(fused_columns, plain_columns));
}

void time_fp8_rows() {
  Window window;
  window.transformer.merge_projections();
  const std::string& no_plans = window.attention.try_out(at::kBFloat16, 12, 128);
  if (!no_plans.empty()) std::printf("  plans in bf16 refused: %s\n", no_plans.c_str());
  window.attention.on_refusal = [](const std::string& text) { std::printf("  REFUSED: %s\n", text.c_str()); };
  const at::Tensor order = at::randperm(2040, at::TensorOptions().dtype(at::kLong).device(kGpu));
  const TokenSet columns = TokenSet::columns(std::get<0>(order.narrow(0, 0, 1428).sort()));
  std::printf("\nrows of five chunks and two branches, products in fp8\n");
  std::vector<at::Tensor> want;  // all in bf16
  const auto full = [&](const char* name, const skyreels::RowAttention& attention) {
    window.bind(attention);
    KvCache kv(window.backbone->kv_shape(), at::kBFloat16, kGpu);
    const auto got = time_row(name, window, TokenSet::all(), kv, 3, false);
    if (want.empty())
      want = got;
    else
      std::printf("  %-34s relative difference %.2e\n", "    against all in bf16", relative_error(got, want));
    return got;
  };
  full("all in bf16", {&window.attention});
  window.transformer.to_fp8();
  const auto wide = full("attention in bf16, full", {&window.attention});
  const double begin = seconds_now();
  const std::string& why = window.attention.try_out(at::kFloat8_e4m3fn, 12, 128);
  std::printf("  trying cuDNN took %.2f s%s%s\n", seconds_now() - begin, why.empty() ? "" : "; refused: ", why.c_str());
  if (!why.empty()) return;
  const skyreels::RowAttention in_fp8{&window.attention, true};
  {
    window.bind(in_fp8);
    KvCache kv(window.backbone->kv_shape(), at::kBFloat16, kGpu);
    std::printf("  keys and values: %.2f GB\n", static_cast<double>(kv.bytes()) * 1e-9);
    for (const auto& [name, tokens] : {std::pair{"first row with new plans, full", TokenSet::all()}, std::pair{"first row, 70 % columns", columns}}) {
      const double from = seconds_now();
      window.row(tokens, kv);
      std::printf("  %-34s %9.1f ms on the host\n", name, 1e3 * (seconds_now() - from));
      c10::impl::VirtualGuardImpl(at::kCUDA).synchronizeDevice(0);
    }
    time_row("attention in fp8, 70 % columns", window, columns, kv, 3, false);
  }
  const auto narrow = full("attention in fp8, full", in_fp8);
  std::printf("  fp8 against bf16 attention, full: relative difference %.2e\n", relative_error(narrow, wide));
  full("the same in all blocks, full", {&window.attention, true, true});
}

// Decoded in pushes of `latents`, with random weights.
at::Tensor time_decode(at::ScalarType dtype, int64_t latents) {
  const VaeSizes sizes = make_vae_sizes(96, {1, 2, 4, 4}, 2, {false, true, true});
  RandomSource source(1, kGpu, dtype);
  const WanVae vae(source, sizes);
  const at::Tensor x = at::randn({1, 16, 25, 68, 120}, at::TensorOptions().dtype(at::kFloat).device(kGpu));
  std::vector<at::Tensor> frames;
  double best = 1e30;
  for (int round = 0; round < 3; ++round) {
    frames.clear();
    c10::impl::VirtualGuardImpl(at::kCUDA).synchronizeDevice(0);
    best = std::min(best, timed([&] {
                      VaeDecodeStream stream(vae);
                      for (int64_t i = 0; i < 25; i += latents) frames.push_back(stream.push(x.narrow(2, i, std::min(latents, 25 - i))).to(at::kFloat));
                    }));
  }
  const double flops = vae_decode_flops(sizes, 544, 960, 97);
  std::printf("  %s, %lld latents a push: %.2f s, %.0f TFLOP/s\n", c10::toString(dtype), static_cast<long long>(latents), best / 1e3, flops / best / 1e9);
  return at::cat(frames, 2);
}

void time_vae() {
  std::printf("\nVAE, 97 frames of 544x960\n");
  const at::Tensor wide = time_decode(at::kFloat, 1), narrow = time_decode(at::kBFloat16, 1);
  const double error = (wide - narrow).pow(2).mean().item<double>();
  std::printf("  bfloat16 against float32: %.1f dB (random weights, frames within -1 ... 1)\n", 10 * std::log10(4 / error));
  time_decode(at::kFloat, 2), time_decode(at::kBFloat16, 2);
}

}  // namespace

int main(int argc, char** argv) try {
  const c10::InferenceMode inference;
  if (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) || !at::hasCUDA())
    fail_usage("bench_kernels needs a GPU and LibTorch's CUDA half");
  const std::set<std::string> wanted(argv + 1, argv + argc);
  const auto want = [&](const char* part) { return wanted.empty() || wanted.contains(part); };
  if (want("attention")) time_attention();
  if (want("plans")) time_plans();
  if (want("vae")) time_vae();
  if (want("row")) time_rows();
  if (want("fp8")) time_fp8_rows();
  if (want("ops")) {
    time_ops("full row", {});
    time_ops("row of 70 % columns", {.computed = 7140});
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_kernels: %s\n", error.what());
  return 1;
}
