// longtake bench ops: the operators of a model at its shapes, beside what this machine can do at best.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/bench.h"
#include "apps/commands.h"
#include "apps/op_bench.h"
#include "apps/options_cli.h"
#include "attention/attend.h"
#include "attention/planned_attention.h"
#include "attention/rope.h"
#include "base/cuda.h"
#include "base/error.h"
#include "models/ops/bench_ops.h"
#include "models/ops/norm.h"
#include "quant/fp8.h"
#include "quant/linear.h"
#include "runtime/device.h"
#include "runtime/machine.h"
#include "runtime/model.h"

namespace longtake {
namespace {

constexpr const char *kMemoryCeiling = "copy", *kComputeCeiling = "gemm";

struct Arguments {
  std::string only;
  int repeats = 20;
  bool json = false;
};

// The shapes that a run of the model has.
struct OpShapes {
  int64_t dim, ffn, heads;
  int64_t plane;          // tokens of a latent frame
  int64_t window, chunk;  // latent frames

  struct Rows {
    int64_t frames, each;  // tokens of each
    int64_t count() const { return frames * each; }
  };
  // All of a window, and 70 % of a chunk.
  std::vector<Rows> rows() const { return {{window, plane}, {chunk, std::max<int64_t>(plane * 7 / 10, 1)}}; }
};

class OpList {
 public:
  OpList(const OpShapes& shapes, const at::Device& device, at::ScalarType dtype)
      : s_(shapes), device_(device), dtype_(dtype), size_(static_cast<double>(c10::elementSize(dtype))),
        plans_(std::make_shared<PlannedAttention>(device)) {}

  std::vector<OpCase> all() {
    copy();
    for (const OpShapes::Rows& rows : s_.rows())
      for (const auto& [out, in] : {std::pair{s_.dim, s_.dim}, std::pair{s_.ffn, s_.dim}, std::pair{s_.dim, s_.ffn}})
        gemm(rows.count(), out, in);
    attention();
    for (const OpShapes::Rows& rows : s_.rows()) norms(rows);
    if (has_fp8())
      for (const OpShapes::Rows& rows : s_.rows()) fp8(rows.count());
    return std::move(cases_);
  }

 private:
  at::Tensor random(at::IntArrayRef shape, at::ScalarType dtype) const {
    return at::randn(shape, at::TensorOptions().dtype(dtype).device(device_));
  }
  at::Tensor random(at::IntArrayRef shape) const { return random(shape, dtype_); }

  void copy() {
    const int64_t bytes = device_.is_cpu() ? int64_t{128} << 20 : int64_t{1} << 30;
    cases_.push_back(
        {kMemoryCeiling, fmt::format("{} MB", bytes >> 20), 2.0 * static_cast<double>(bytes), 0, [=, this] {
           const at::Tensor from = at::empty({bytes}, at::TensorOptions().dtype(at::kByte).device(device_)).fill_(1);
           return [from, to = at::empty_like(from)] { to.copy_(from); };
         }});
  }

  void gemm(int64_t rows, int64_t out, int64_t in) {
    cases_.push_back(
        {kComputeCeiling, fmt::format("{} x {} x {}", rows, in, out), 0,
         2.0 * static_cast<double>(rows) * static_cast<double>(out * in), [=, this] {
           return [linear = Linear{random({out, in}), random({out})}, x = random({rows, in})] { linear(x); };
         }});
  }

  // The way that rows take: our kernel, or plans where cuDNN has them, with queries padded as a row's are; in 16 or 32 bits attend() elsewhere,
  // and beside it as far as both are there.
  void attention(const char* name, at::ScalarType dtype, bool planned) {
    const int64_t queries = s_.chunk * s_.plane, width = s_.dim / s_.heads;
    for (int64_t frames = s_.chunk; frames <= s_.window; frames += s_.chunk) {
      const int64_t keys = frames * s_.plane;
      cases_.push_back({name, fmt::format("{} on {}, {} x {}", queries, keys, s_.heads, width), 0,
                        4.0 * static_cast<double>(queries) * static_cast<double>(keys) * static_cast<double>(s_.dim), [=, this] {
                          const auto rows = [&](int64_t count) { return random({count, s_.heads, width}).to(dtype); };
                          Sequence s{rows(queries), rows(keys), rows(keys), {}};
                          if (planned && !plans_->joins({&s, 1})) s.q = rows(padded(queries));
                          return [=, plans = plans_] { planned ? plans->together({&s, 1}) : attend_together({&s, 1}); };
                        }});
    }
  }

  void attention() {
    const int64_t width = s_.dim / s_.heads;
    const bool planned = plans_->try_out(dtype_, s_.heads, width).empty();
    if (planned) attention("attend", dtype_, true);
    attention(planned ? "attend through ATen" : "attend", dtype_, false);
    if (!has_fp8()) return;
    const std::string& why = plans_->try_out(at::kFloat8_e4m3fn, s_.heads, width);
    if (why.empty())
      attention("attend fp8", at::kFloat8_e4m3fn, true);
    else
      fmt::print(stderr, "attend fp8 is left out: {}\n", why);
    // A refused shape would be timed as something else.
    plans_->on_refusal = [](const std::string& text) { fail_usage("cuDNN refused {}", text); };
  }

  // What surrounds the products, as the block does it.
  void norms(const OpShapes::Rows& by_frame) {
    const int64_t rows = by_frame.count();
    const auto values = static_cast<double>(rows * s_.dim);
    const std::string shape = fmt::format("{} x {}", rows, s_.dim);
    cases_.push_back({"layer_norm + modulate", shape, values * (4 + size_), 0, [=, this] {
                        const FrameModulation modulation(random({by_frame.frames, 6, s_.dim}, at::kFloat),
                                                         std::vector<int64_t>(by_frame.frames, by_frame.each));
                        return [modulation, z = random({rows, s_.dim}, at::kFloat), dtype = dtype_] {
                          modulation.modulate(layer_norm(z, 1e-6), 0, 1).to(dtype);
                        };
                      }});
    const int64_t width = s_.dim / s_.heads;
    const double rotations = 4 * static_cast<double>(rows * width);  // complex64 for each pair
    cases_.push_back({"rms_norm + rope", shape, values * 2 * size_ + rotations, 0, [=, this] {
                        return [q = random({rows, s_.dim}), gain = random({s_.dim}),
                                rotations = rope_3d(1, 1, rows, width, device_), rows, width, dtype = dtype_] {
                          apply_rope(rms_norm(q, gain, 1e-6).view({rows, -1, width}), rotations).to(dtype);
                        };
                      }});
  }

  bool has_fp8() const {
    return dtype_ == at::kBFloat16 && cuda::capability(at::empty({0}, at::TensorOptions().device(device_))) >= 89;
  }

  void fp8(int64_t rows) {
    for (const int64_t width : {s_.dim, s_.ffn}) {
      const double bytes = static_cast<double>(rows * width) * 3;
      const std::string shape = fmt::format("{} x {}", rows, width);
      cases_.push_back({"quantise_rows", shape, bytes, 0, [=, this] {
                          return [x = random({rows, width})] { quantise_rows(x); };
                        }});
      if (width == s_.ffn)
        cases_.push_back({"gelu_quantise_rows", shape, bytes, 0, [=, this] {
                            return [x = random({rows, width}), bias = random({width})] { gelu_quantise_rows(x, bias); };
                          }});
    }
    for (const auto& [out, in] : {std::pair{s_.dim, s_.dim}, std::pair{3 * s_.dim, s_.dim}, std::pair{s_.ffn, s_.dim},
                                  std::pair{s_.dim, s_.ffn}})
      cases_.push_back(
          {"fp8_product", fmt::format("{} x {} x {}", rows, in, out), 0,
           2.0 * static_cast<double>(rows) * static_cast<double>(out * in), [=, this] {
             const Fp8Rows x = quantise_rows(random({rows, in})), weight = quantise_rows(random({out, in}));
             return [x, weight, bias = random({out}), to = random({rows, out})]() mutable {
               fp8_product(to, x, weight, bias);
             };
           }});
  }

  const OpShapes s_;
  const at::Device device_;
  const at::ScalarType dtype_;
  const double size_;
  std::vector<OpCase> cases_;
  const std::shared_ptr<PlannedAttention> plans_;
};

// A whole row of the schedule as the backbone runs it on GPUs, every chunk in both branches, with `computed` tokens of
// each chunk.
std::vector<OpCase> row_ops(const OpShapes& s, int64_t text_tokens, int64_t computed, const at::Device& device,
                            at::ScalarType dtype) {
  const BenchSizes sizes{.dim = s.dim,
                         .ffn_dim = s.ffn,
                         .heads = s.heads,
                         .chunks = s.window / s.chunk,
                         .branches = 2,
                         .chunk_tokens = s.chunk * s.plane,
                         .computed = computed,
                         .text_tokens = text_tokens};
  std::vector<OpCase> cases;
  for (BenchOp& op : bench_ops(sizes, device, dtype))
    cases.push_back({"row: " + op.name, fmt::format("{} x {}", sizes.rows(), sizes.dim), op.flops > 0 ? 0 : op.bytes,
                     op.flops, [run = std::move(op.run)] { return run; }});
  return cases;
}

OpShapes shapes_of(const Recipe& recipe, const GenerateOptions& o) {
  const skyreels::TransformerConfig c = transformer_config(recipe);
  const int64_t plane = int64_t{o.size.height} * o.size.width / 256, frames = (o.window - 1) / 4 + 1;
  return {c.dim, c.ffn_dim, c.heads, plane, frames, std::min<int64_t>(o.chunk, frames)};
}

void run_bench_ops(const GivenOptions& given, const Arguments& a) {
  const OptionSet options = resolve_options(given, "bench ops");
  const GenerateOptions& o = options.values();
  const Recipe recipe = resolve_model(o.model, default_search()).recipe;
  const OpShapes shapes = shapes_of(recipe, o);
  if (o.threads > 0) at::set_num_threads(o.threads);
  const at::Device device = open_device(o.device);
  const c10::InferenceMode inference;
  std::vector<OpTiming> timings;
  const at::ScalarType dtype = o.dtype == "fp32" ? at::kFloat : at::kBFloat16;
  const auto time_all = [&](const std::vector<OpCase>& cases) {
    for (const OpCase& op : cases)
      if (op.name == kMemoryCeiling || op.name == kComputeCeiling || op.name.find(a.only) != std::string::npos)
        timings.push_back(time_op(op, {.device = device, .repeats = a.repeats}));
  };
  OpList list(shapes, device, dtype);
  time_all(list.all());
  for (const OpShapes::Rows& rows : {OpShapes::Rows{shapes.chunk, shapes.plane}, shapes.rows().back()})
    time_all(row_ops(shapes, recipe.architecture.text_len, rows.count(), device, dtype));
  const Machine machine = describe_machine(device);
  const std::string where =
      device.is_cpu() ? fmt::format("{} ({} threads)", machine.cpu, machine.threads) : machine.gpu;
  if (a.json) {
    const nlohmann::ordered_json report = {{"version", kVersion},
                                           {"model", recipe.name},
                                           {"device", where},
                                           {"dtype", o.dtype},
                                           {"ops", to_json(timings)}};
    fmt::print("{}\n", report.dump(2));
  } else {
    fmt::print("longtake {}, operators of {}, {} on {}; medians of {}\n\n{}", kVersion, recipe.name, o.dtype, where,
               a.repeats, to_text(timings, kMemoryCeiling, kComputeCeiling));
  }
}

}  // namespace

void add_bench_ops(CLI::App& bench) {
  auto* verb =
      bench.add_subcommand("ops", "Times the operators of a model at its shapes: matrix products, attention, norms");
  auto a = std::make_shared<Arguments>();
  const auto given = add_chosen_flags(
      *verb, {"video.size", "sampling.window", "sampling.chunk", "run.device", "run.dtype", "run.threads"});
  add_model_config(*verb, given);
  verb->add_option("--only", a->only,
                   "Only operators with this text in their name, beside copy and gemm, which shares refer to")
      ->type_name("TEXT");
  verb->add_option("--repeats", a->repeats, "Times that each is run [default: 20]")
      ->type_name("COUNT")
      ->check(CLI::Range(1, 100'000));
  verb->add_flag("--json", a->json, "Print JSON instead of a table");
  verb->footer(
      "Hot: the operator ran just before. Cold: the device's caches were overwritten in between, as other layers do.\n"
      "Example: longtake bench ops --model-config skyreels-v2-df-1.3b-540p --only gemm");
  verb->callback([given, a] { run_bench_ops(*given, *a); });
}

}  // namespace longtake
