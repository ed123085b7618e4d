#include "runtime/device_timer.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace longtake {

void synchronize(const at::Device& device) {
  if (device.is_cuda()) at::detail::getCUDAHooks().deviceSynchronize(device.index());
}

struct DeviceTimer::Events {
  // The backend's default flag is the one that keeps the time.
  explicit Events(at::DeviceType type)
      : begin(type, c10::EventFlag::BACKEND_DEFAULT), end(type, c10::EventFlag::BACKEND_DEFAULT) {}
  c10::Event begin, end;
};

DeviceTimer::DeviceTimer(const at::Device& device)
    : device_(device), events_(device.is_cpu() ? nullptr : std::make_unique<Events>(device.type())) {}

DeviceTimer::~DeviceTimer() = default;

void DeviceTimer::start() {
  if (events_)
    events_->begin.record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  else
    begin_ = std::chrono::steady_clock::now();
}

double DeviceTimer::stop() {
  if (!events_) return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  events_->end.record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  events_->end.synchronize();
  return events_->begin.elapsedTime(events_->end) * 1e-3;
}

}  // namespace longtake
