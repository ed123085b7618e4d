// What a measurement ran on, and how much memory it took.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <string>

namespace longtake {

struct Machine {
  std::string cpu;     // as the kernel names it, or "unknown CPU"
  int threads = 0;     // that LibTorch computes with
  int64_t memory = 0;  // bytes
  std::string gpu;     // "" where the run used none
  std::string system;  // "Linux 6.1.0 x86_64"
};

Machine describe_machine(const at::Device& device);

// The highest memory use since construction: of the GPU's allocator where the run is on one, else of the whole process.
class PeakMemory {
 public:
  explicit PeakMemory(const at::Device& device);

  // Bytes; 0 where this system or this LibTorch does not tell.
  int64_t bytes() const;
  // "GPU memory allocated by LibTorch" or "resident memory of the process".
  static std::string meaning(const at::Device& device);

 private:
  at::Device device_;
  bool reset_ = false;
};

// Bytes of a GPU that are free, or that LibTorch's allocator holds and can give again; nothing where this LibTorch does not tell.
std::optional<double> free_device_memory(const at::Device& gpu);

// From now on this process gives freed memory back to the system, from blocks of 2 MB on. By default glibc raises that bound up to 32 MB as a
// run goes on, and keeps the rest in pieces: up to a quarter more memory at the peak, and another amount in every run. Memory that comes anew has
// to be cleared, so small runs are better off without. Nothing happens with other C libraries.
void give_back_freed_memory();

// Seconds of CPU time that this process has used, all threads together.
double process_cpu_seconds();

// How much of the machine's CPU time went to other processes since construction: timings taken on a busy machine
// mislead.
class OtherLoad {
 public:
  OtherLoad();
  // 0 (nobody else) .. 1 (all CPUs, all the time); nothing where the system does not tell, or too little time has
  // passed.
  std::optional<double> share() const;

 private:
  double busy_, idle_, own_;  // seconds
};

}  // namespace longtake
