// Time as the device sees it: events in its stream on a GPU, the steady clock on the CPU.
#pragma once

#include <c10/core/Device.h>

#include <chrono>
#include <memory>

namespace longtake {

// Waits until the device has done all work that was given to it.
void synchronize(const at::Device& device);

// Seconds of the work between start() and stop() on the device's current stream.
class DeviceTimer {
 public:
  explicit DeviceTimer(const at::Device& device);
  ~DeviceTimer();
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;

  void start();
  // Waits for the work.
  double stop();

 private:
  struct Events;
  at::Device device_;
  std::unique_ptr<Events> events_;  // on a GPU
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace longtake
