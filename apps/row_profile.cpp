#include "apps/row_profile.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>
#include <kineto/ActivityType.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "apps/op_bench.h"
#include "base/cuda.h"
#include "base/op_scope.h"
#include "quant/fp8.h"
#include "quant/linear.h"

namespace longtake {
namespace {

namespace kineto = torch::autograd::profiler;
using Activity = libkineto::ActivityType;

constexpr const char* kOther = "other";

Activity activity(const kineto::KinetoEvent& e) { return static_cast<Activity>(e.activityType()); }

bool on_device(const kineto::KinetoEvent& e) {
  const Activity a = activity(e);
  return a == Activity::CONCURRENT_KERNEL || a == Activity::GPU_MEMCPY || a == Activity::GPU_MEMSET;
}

bool on_host(const kineto::KinetoEvent& e) { return activity(e) == Activity::CUDA_RUNTIME || activity(e) == Activity::CUDA_DRIVER; }

// A blocking copy shows as its cudaStreamSynchronize.
bool waits(const std::string& name) { return name.starts_with("cu") && name.find("Synchronize") != std::string::npos; }

bool allocates(const std::string& name) { return name == "cudaMalloc" || name == "cuMemCreate" || name == "cudaMallocAsync"; }

struct Scope {
  uint64_t begin = 0, end = 0;
  OpScope::Label label;
};

// The scope that holds a moment of the host.
const Scope* scope_at(const std::vector<Scope>& by_begin, uint64_t moment) {
  const auto after = std::upper_bound(by_begin.begin(), by_begin.end(), moment, [](uint64_t m, const Scope& s) { return m < s.begin; });
  return after != by_begin.begin() && moment <= std::prev(after)->end ? &*std::prev(after) : nullptr;
}

class Reading {
 public:
  Reading(const std::vector<kineto::KinetoEvent>& events, bool cpu) {
    std::unordered_map<uint64_t, uint64_t> launched_at;
    for (const auto& e : events) {
      if (activity(e) == Activity::CPU_OP || activity(e) == Activity::USER_ANNOTATION) {
        if (auto label = OpScope::parse(e.name())) scopes_.push_back({e.startNs(), e.endNs(), std::move(*label)});
      } else if (on_host(e)) {
        launched_at.emplace(e.correlationId(), e.startNs());
        if (waits(e.name())) ++out_.host_waits;
        if (allocates(e.name())) ++out_.allocations;
      }
    }
    std::sort(scopes_.begin(), scopes_.end(), [](const Scope& a, const Scope& b) { return a.begin < b.begin; });
    for (const Scope& s : scopes_) {
      ProfiledOp& op = op_of(s.label.name);
      ++op.calls, op.flops += s.label.cost.flops, op.bytes += s.label.cost.bytes;
      if (cpu) op.seconds += 1e-9 * static_cast<double>(s.end - s.begin);
    }
    for (const auto& e : events)
      if (on_device(e)) add_device_event(e, launched_at);
    measure_gaps();
  }

  RowProfile take() && {
    for (auto& [name, op] : ops_) out_.ops.push_back(std::move(op));
    for (auto& [name, kernel] : kernels_) out_.launched.push_back(std::move(kernel));
    const auto slower = [](const auto& a, const auto& b) { return a.seconds > b.seconds; };
    std::sort(out_.ops.begin(), out_.ops.end(), slower);
    std::sort(out_.launched.begin(), out_.launched.end(), slower);
    return std::move(out_);
  }

 private:
  ProfiledOp& op_of(const std::string& name) {
    ProfiledOp& op = ops_[name];
    op.name = name;
    return op;
  }

  void add_device_event(const kineto::KinetoEvent& e, const std::unordered_map<uint64_t, uint64_t>& launched_at) {
    const double seconds = 1e-9 * static_cast<double>(e.durationNs());
    const bool kernel = activity(e) == Activity::CONCURRENT_KERNEL;
    ++(kernel ? out_.kernels : out_.copies);
    spans_.push_back({e.startNs(), e.endNs()});
    const auto launch = launched_at.find(e.correlationId());
    const Scope* scope = launch == launched_at.end() ? nullptr : scope_at(scopes_, launch->second);
    ProfiledOp& op = op_of(scope ? scope->label.name : kOther);
    ++op.kernels, op.seconds += seconds;
    ProfiledKernel& same = kernels_[e.name()];
    same.name = e.name();
    ++same.count, same.seconds += seconds;
  }

  void measure_gaps() {
    if (spans_.empty()) return;
    std::sort(spans_.begin(), spans_.end());
    uint64_t end = spans_.front().first, gaps = 0, longest = 0;
    for (const auto& [from, to] : spans_) {
      if (from > end) gaps += from - end, longest = std::max(longest, from - end);
      end = std::max(end, to);
    }
    out_.span_seconds = 1e-9 * static_cast<double>(end - spans_.front().first);
    out_.busy_seconds = out_.span_seconds - 1e-9 * static_cast<double>(gaps);
    out_.longest_gap_seconds = 1e-9 * static_cast<double>(longest);
  }

  RowProfile out_;
  std::vector<Scope> scopes_;
  std::vector<std::pair<uint64_t, uint64_t>> spans_;
  std::map<std::string, ProfiledOp> ops_;
  std::map<std::string, ProfiledKernel> kernels_;
};

std::string shortened(const std::string& kernel) { return kernel.size() <= 92 ? kernel : kernel.substr(0, 89) + "..."; }

struct Rate {
  double value = 0, ceiling = 0;
  const char* unit = "";
};

// FLOPs where an operation has them, else bytes.
Rate rate_of(const ProfiledOp& op, const Ceilings& c) {
  if (op.seconds <= 0) return {};
  if (op.flops > 0) return {op.flops / op.seconds * 1e-12, (op.name.ends_with("fp8") ? c.fp8_flops_per_second : c.flops_per_second) * 1e-12, "TFLOP/s"};
  if (op.bytes > 0) return {op.bytes / op.seconds * 1e-9, c.bytes_per_second * 1e-9, "GB/s"};
  return {};
}

}  // namespace

void RowProfiler::begin() {
  using torch::profiler::impl::ActivityType;
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  std::set<ActivityType> activities{ActivityType::CPU};
  if (device_.is_cuda()) activities.insert(ActivityType::CUDA);
  kineto::prepareProfiler(config, activities);
  kineto::enableProfiler(config, activities, {at::RecordScope::USER_SCOPE});
}

RowProfile RowProfiler::end(int window, int row) {
  const auto result = kineto::disableProfiler();
  RowProfile profile = Reading(result->events(), device_.is_cpu()).take();
  profile.window = window, profile.row = row;
  return profile;
}

Ceilings measure_ceilings(const at::Device& device, at::ScalarType dtype) {
  const auto random = [&](at::IntArrayRef sizes) { return at::randn(sizes, at::TensorOptions().dtype(dtype).device(device)); };
  const OpBenchSettings settings{.device = device, .repeats = device.is_cpu() ? 3 : 20};
  const auto rate = [&](double bytes, double flops, std::function<std::function<void()>()> prepare) {
    return time_op({"", "", bytes, flops, std::move(prepare)}, settings).hot_rate();
  };
  const int64_t size = device.is_cpu() ? 1024 : 8192, copied = device.is_cpu() ? int64_t{128} << 20 : int64_t{1} << 30;
  const double flops = 2.0 * std::pow(static_cast<double>(size), 3);
  Ceilings out;
  out.bytes_per_second = rate(2.0 * static_cast<double>(copied), 0, [&] {
    const at::Tensor from = at::empty({copied}, at::TensorOptions().dtype(at::kByte).device(device)).fill_(1);
    return [from, to = at::empty_like(from)] { to.copy_(from); };
  });
  out.flops_per_second = rate(0, flops, [&] {
    return [layer = Linear{random({size, size}), {}}, x = random({size, size}), to = random({size, size})]() mutable { layer.into(to, x); };
  });
  if (dtype == at::kBFloat16 && cuda::capability(random({1})) >= 89)
    out.fp8_flops_per_second = rate(0, flops, [&] {
      return [x = quantise_rows(random({size, size})), w = quantise_rows(random({size, size})), to = random({size, size})]() mutable {
        fp8_product(to, x, w, {});
      };
    });
  return out;
}

std::string to_text(const RowProfile& p, const Ceilings& c) {
  double sum = 0;
  for (const ProfiledOp& op : p.ops) sum += op.seconds;
  std::string out = fmt::format("\nprofile of row {} of window {}: {:<18}{:>8}{:>9}{:>11}{:>8}{:>11}{:>18}{:>10}\n", p.row + 1, p.window + 1, "", "calls",
                                "kernels", "ms", "share", "GFLOP", "rate", "ceiling");
  for (const ProfiledOp& op : p.ops) {
    const Rate rate = rate_of(op, c);
    out += fmt::format("  {:<46}{:>8}{:>9}{:>11.3f}{:>6.1f} %{:>11.1f}{:>18}{:>10}\n", op.name, op.calls, op.kernels, 1e3 * op.seconds,
                       sum > 0 ? 100 * op.seconds / sum : 0, op.flops * 1e-9, rate.value > 0 ? fmt::format("{:.4g} {}", rate.value, rate.unit) : "",
                       rate.ceiling > 0 ? fmt::format("{:.0f} %", 100 * rate.value / rate.ceiling) : "");
  }
  out += fmt::format("ceilings measured here: copy {:.0f} GB/s, product {:.0f} TFLOP/s", c.bytes_per_second * 1e-9, c.flops_per_second * 1e-12);
  out += c.fp8_flops_per_second > 0 ? fmt::format(", in fp8 {:.0f} TFLOP/s\n", c.fp8_flops_per_second * 1e-12) : "\n";
  if (p.kernels == 0) return out;
  out += fmt::format("{} kernels, {} copies and fills; {:.3f} ms from the first to the last, of it {:.3f} ms in gaps (the longest {:.3f} ms)\n", p.kernels,
                     p.copies, 1e3 * p.span_seconds, 1e3 * (p.span_seconds - p.busy_seconds), 1e3 * p.longest_gap_seconds);
  out += fmt::format("the host waited {} times and took memory from the driver {} times\n\nslowest kernels{:>88}{:>11}\n", p.host_waits, p.allocations,
                     "count", "ms");
  for (size_t i = 0; i < std::min<size_t>(p.launched.size(), 30); ++i)
    out += fmt::format("  {:<92}{:>8}{:>12.3f}\n", shortened(p.launched[i].name), p.launched[i].count, 1e3 * p.launched[i].seconds);
  return out;
}

nlohmann::ordered_json to_json(const RowProfile& p, const Ceilings& c) {
  nlohmann::ordered_json ops = nlohmann::ordered_json::array(), kernels = nlohmann::ordered_json::array();
  for (const ProfiledOp& op : p.ops)
    ops.push_back({{"name", op.name}, {"calls", op.calls}, {"kernels", op.kernels}, {"seconds", op.seconds}, {"flops", op.flops}, {"bytes", op.bytes}});
  for (const ProfiledKernel& k : p.launched) kernels.push_back({{"name", k.name}, {"count", k.count}, {"seconds", k.seconds}});
  return {{"window", p.window},
          {"row", p.row},
          {"span_seconds", p.span_seconds},
          {"busy_seconds", p.busy_seconds},
          {"longest_gap_seconds", p.longest_gap_seconds},
          {"kernels", p.kernels},
          {"copies", p.copies},
          {"host_waits", p.host_waits},
          {"driver_allocations", p.allocations},
          {"ceiling_bytes_per_second", c.bytes_per_second},
          {"ceiling_flops_per_second", c.flops_per_second},
          {"ceiling_fp8_flops_per_second", c.fp8_flops_per_second},
          {"ops", std::move(ops)},
          {"by_kernel", std::move(kernels)}};
}

}  // namespace longtake
