#include "runtime/machine.h"

#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"

// Allocator statistics that need no CUDA headers came with the LibTorch that also brought this header (2.9).
#if __has_include(<torch/headeronly/version.h>)
#define LONGTAKE_DEVICE_STATS 1
#else
#define LONGTAKE_DEVICE_STATS 0
#endif

namespace longtake {
namespace {

// The value behind "key   : value" in a file of /proc; "" where there is none.
std::string proc_value(const std::filesystem::path& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    const size_t start = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    if (start != std::string::npos) return line.substr(start);
  }
  return "";
}

// The driver lists its GPUs in the order of the bus, which is CUDA's order on machines with one kind of GPU.
std::string gpu_name(int index) {
  std::vector<std::filesystem::path> gpus;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", error))
    gpus.push_back(entry.path());
  std::sort(gpus.begin(), gpus.end());
  if (index >= 0 && index < static_cast<int>(gpus.size()))
    if (const std::string name = proc_value(gpus[index] / "information", "Model"); !name.empty()) return name;
  return "NVIDIA GPU";
}

#if LONGTAKE_DEVICE_STATS
// Came later than the statistics.
template <class Allocator>
std::optional<double> driver_free_memory(Allocator* allocator, at::DeviceIndex index) {
  if constexpr (requires { allocator->getMemoryInfo(index); })
    return static_cast<double>(allocator->getMemoryInfo(index).first);
  else
    return std::nullopt;
}
#endif

struct CpuSeconds {
  double busy = 0, idle = 0;
};

// Of all CPUs since the machine started.
CpuSeconds cpu_seconds() {
  std::ifstream file("/proc/stat");
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft = 0, steal = 0;
  file >> name >> user >> nice >> system >> idle >> wait >> irq >> soft >> steal;
  const auto tick = static_cast<double>(sysconf(_SC_CLK_TCK));
  return {(user + nice + system + irq + soft + steal) / tick, (idle + wait) / tick};
}

}  // namespace

double process_cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

OtherLoad::OtherLoad() : own_(process_cpu_seconds()) {
  const CpuSeconds cpu = cpu_seconds();
  busy_ = cpu.busy, idle_ = cpu.idle;
}

std::optional<double> OtherLoad::share() const {
  const CpuSeconds cpu = cpu_seconds();
  const double busy = cpu.busy - busy_, all = busy + cpu.idle - idle_;
  if (all < 0.2) return std::nullopt;  // the kernel counts in hundredths of a second
  return std::clamp((busy - (process_cpu_seconds() - own_)) / all, 0.0, 1.0);
}

Machine describe_machine(const at::Device& device) {
  Machine machine;
  machine.cpu = proc_value("/proc/cpuinfo", "model name");
  if (machine.cpu.empty()) machine.cpu = "unknown CPU";
  machine.threads = at::get_num_threads();
  machine.memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  if (device.is_cuda()) machine.gpu = gpu_name(device.index());
  utsname name{};
  if (uname(&name) == 0) machine.system = fmt::format("{} {} {}", name.sysname, name.release, name.machine);
  return machine;
}

void give_back_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 2 << 20);
#endif
}

std::optional<double> free_device_memory(const at::Device& gpu) {
#if LONGTAKE_DEVICE_STATS
  auto* allocator = c10::getDeviceAllocator(at::kCUDA);
  const auto free = driver_free_memory(allocator, gpu.index());
  if (!free) return std::nullopt;
  const auto stats = allocator->getDeviceStats(gpu.index());
  return *free + static_cast<double>(stats.reserved_bytes[0].current - stats.allocated_bytes[0].current);
#else
  return std::nullopt;
#endif
}

PeakMemory::PeakMemory(const at::Device& device) : device_(device) {
  if (device.is_cuda()) {
#if LONGTAKE_DEVICE_STATS
    c10::getDeviceAllocator(at::kCUDA)->resetPeakStats(device.index());
    reset_ = true;
#endif
    return;
  }
  // Linux: "5" sets the process's high-water mark back to what it holds now.
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  reset_ = file.good();
}

int64_t PeakMemory::bytes() const {
  if (!reset_) return 0;
  if (device_.is_cuda()) {
#if LONGTAKE_DEVICE_STATS
    // The first entry of a statistic sums small and large blocks.
    return c10::getDeviceAllocator(at::kCUDA)->getDeviceStats(device_.index()).allocated_bytes[0].peak;
#else
    return 0;
#endif
  }
  const std::string kilobytes = proc_value("/proc/self/status", "VmHWM");
  return kilobytes.empty() ? 0 : std::strtoll(kilobytes.c_str(), nullptr, 10) * 1024;
}

std::string PeakMemory::meaning(const at::Device& device) {
  return device.is_cuda() ? "GPU memory allocated by LibTorch" : "resident memory of the process";
}

}  // namespace longtake
