// bench_kernels [ops] [row] [fp8] [plans] [vae]: SkyReels-V2-DF-1.3B's operations and whole rows at 544x960 on the first GPU, with
// random weights.
//
//   ops    each operation of a full row and of a row of 70 % columns: time, share of the ceiling, share of a layer
//   row    whole rows: fused and plain, full and columns, their difference, and whether the host ever waits
//   fp8    whole rows with products in fp8: attention in bf16, in fp8, and in fp8 in the first and the last block too; how far each is from a row
//          in bf16, and what plans cost
//   plans  what cuDNN's plans for new shapes of attention cost, by the way that they are made
//   vae    decoding 97 frames as a stream, in float32 and in bfloat16, and their difference
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/cuda/CUDAFunctions.h>
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <set>

#include "attention/attend.h"
#include "attention/cudnn/sdpa.h"
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

using namespace longtake;

namespace {

const at::Device kGpu(at::kCUDA, 0);

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

c10::Stream stream() { return c10::impl::VirtualGuardImpl(at::kCUDA).getStream(kGpu); }

// Device time of one call, in milliseconds.
double timed(const std::function<void()>& run) {
  c10::Event begin(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT), end(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
  begin.record(stream());
  run();
  end.record(stream());
  end.synchronize();
  return begin.elapsedTime(end);
}

// Median over calls with a cold second-level cache.
double median_ms(const std::function<void()>& run, int repeats = 9) {
  const at::Tensor flush = at::empty({256 << 20}, at::TensorOptions().dtype(at::kByte).device(kGpu));
  for (int i = 0; i < 2; ++i) run();
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    flush.zero_();
    times.push_back(timed(run));
  }
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[repeats / 2];
}

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

double relative_error(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (a[i].to(at::kFloat) - b[i].to(at::kFloat)).pow(2).sum().item<double>();
    size += b[i].to(at::kFloat).pow(2).sum().item<double>();
  }
  return std::sqrt(error / size);
}

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

// What a plan of cuDNN's costs the host, and how fast it is: each shape compiled for itself, as a graph of dynamic shape, and with counts
// that the device reads.
class PlanTimes {
 public:
  explicit PlanTimes(cudnn::Element element)
      : element_(element), q_(rows(2 * kQueries)), k_(rows(2 * kKeys)), v_(rows(2 * kKeys)),
        constants_(at::tensor(at::ArrayRef<float>(cudnn::kConstants), at::TensorOptions().dtype(at::kFloat)).to(kGpu)),
        unused_(at::empty({2}, at::TensorOptions().dtype(at::kFloat).device(kGpu))) {
    exact_ = cudnn::open_sdpa(cudnn::Plans::exact);
    dynamic_ = cudnn::open_sdpa(cudnn::Plans::dynamic);
  }

  void all() {
    for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{
             {10240, 51000}, {10240, 10200}, {7168, 10200}, {7168, 51000}, {7140, 30600}, {5120, 20400}, {4352, 40800}, {256, 512}, {9984, 512}}) {
      std::printf("  %lld queries on %lld keys, 2 sequences\n", static_cast<long long>(queries), static_cast<long long>(keys));
      const at::Tensor want = one("exact", *exact_, shape(queries, keys, false), queries, keys, {});
      one("dynamic", *dynamic_, shape(queries, keys, false), queries, keys, want);
      one("counted queries", *exact_, shape(kQueries, keys, true), queries, keys, want);
      one("counted queries and keys", *exact_, shape(kQueries, kKeys, true), queries, keys, want);
    }
  }

 private:
  static constexpr int64_t kQueries = 10240, kKeys = 51000, kHeads = 12, kWidth = 128;

  at::ScalarType type() const { return element_ == cudnn::Element::e4m3 ? at::kFloat8_e4m3fn : at::kBFloat16; }
  at::Tensor rows(int64_t count) const {
    return at::randn({count, kHeads, kWidth}, at::TensorOptions().dtype(at::kFloat).device(kGpu)).to(type());
  }
  cudnn::SdpaShape shape(int64_t queries, int64_t keys, bool counted) const {
    return {.element = element_, .sequences = 2, .heads = kHeads, .width = kWidth, .key_heads = kHeads, .queries = queries, .keys = keys,
            .query_stride = kQueries * kHeads * kWidth, .key_stride = kKeys * kHeads * kWidth,
            .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(kWidth))), .counted = counted};
  }

  at::Tensor one(const char* name, cudnn::Sdpa& sdpa, const cudnn::SdpaShape& s, int64_t queries, int64_t keys, const at::Tensor& want) try {
    const double begin = seconds_now();
    const at::Tensor workspace = at::empty({sdpa.prepare(s)}, at::TensorOptions().dtype(at::kByte).device(kGpu));
    const double planned = seconds_now();
    const at::Tensor out = at::empty({2, s.queries, kHeads, kWidth}, q_.options());
    const auto ints = at::TensorOptions().dtype(at::kInt);
    const at::Tensor query_counts = at::full({2}, queries, ints).to(kGpu), key_counts = at::full({2}, keys, ints).to(kGpu);
    const cudnn::SdpaPointers p{.q = q_.const_data_ptr(), .k = k_.const_data_ptr(), .v = v_.const_data_ptr(), .out = out.data_ptr(),
                                .query_counts = query_counts.const_data_ptr<int32_t>(), .key_counts = key_counts.const_data_ptr<int32_t>(),
                                .constants = constants_.const_data_ptr<float>(), .unused = unused_.data_ptr<float>(),
                                .workspace = workspace.data_ptr()};
    const auto raw = reinterpret_cast<CUstream_st*>(cuda::Launch(q_, "attention").stream());
    const double ready = seconds_now();
    sdpa.run(s, p, raw);
    const double first = seconds_now() - ready;
    const double ms = median_ms([&] { sdpa.run(s, p, raw); }, 5);
    const at::Tensor got = out.narrow(1, 0, queries).to(at::kFloat);
    std::printf("    %-26s plan %8.1f ms, first run %7.2f ms, %8.3f ms, %6.1f TFLOP/s, workspace %lld", name, 1e3 * (planned - begin), 1e3 * first,
                ms, 8.0 * static_cast<double>(queries * keys) * kHeads * kWidth / ms / 1e9, static_cast<long long>(workspace.numel()));
    if (want.defined())
      std::printf(", difference %.1e%s", relative_error({got}, {want}), at::equal(got, want) ? " (equal bits)" : "");
    std::printf("\n");
    return got;
  } catch (const std::exception& error) {
    std::printf("    %-26s %s\n", name, error.what());
    return {};
  }

  const cudnn::Element element_;
  const at::Tensor q_, k_, v_, constants_, unused_;
  std::unique_ptr<cudnn::Sdpa> exact_, dynamic_;
};

void time_plans() {
  for (const auto& [name, element] : {std::pair{"bfloat16", cudnn::Element::bf16}, std::pair{"e4m3", cudnn::Element::e4m3}}) {
    std::printf("\nattention through cuDNN in %s\n", name);
    PlanTimes(element).all();
  }
  const auto typed = at::TensorOptions().dtype(at::kBFloat16).device(kGpu);
  const at::Tensor q = at::randn({10240, 12, 128}, typed), k = at::randn({51000, 12, 128}, typed), v = at::randn({51000, 12, 128}, typed);
  std::printf("\nATen's: first call of a new shape, and the second, in ms on the host\n");
  for (int64_t n = 2560; n <= 10240; n += 2560) {
    double taken[2];
    for (double& t : taken) {
      c10::impl::VirtualGuardImpl(at::kCUDA).synchronizeDevice(0);
      const double begin = seconds_now();
      attend(q.narrow(0, 0, n), k, v, {0, 10200});
      t = 1e3 * (seconds_now() - begin);
    }
    std::printf("  %lld queries: %.2f, %.3f\n", static_cast<long long>(n), taken[0], taken[1]);
  }
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
