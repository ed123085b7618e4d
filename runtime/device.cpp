#include "runtime/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include <optional>

#include "base/error.h"

namespace longtake {
namespace {

// Nothing where it worked, else what the loader said. Must come before ATen is first asked for CUDA: it asks once.
std::optional<std::string> load_cuda() {
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) return std::nullopt;
  const char* text = dlerror();
  return text ? text : "unknown error";
}

}  // namespace

at::Device open_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  if (name != "auto" && name != "cuda" && !name.starts_with("cuda:"))
    fail_usage("--device must be auto, cpu, cuda or cuda:N, found '{}'", name);
  const auto trouble = load_cuda();
  if (trouble && name != "auto")
    fail_file("LibTorch's CUDA half could not be loaded ({}); install a CUDA build of LibTorch, or use --device cpu", *trouble);
  const int count = trouble || !at::hasCUDA() ? 0 : at::detail::getCUDAHooks().deviceCount();
  if (count == 0) {
    if (name == "auto") return at::kCPU;
    fail_usage("there is no usable NVIDIA GPU for --device {}; check nvidia-smi, or use --device cpu", name);
  }
  int index = 0;
  if (name.starts_with("cuda:")) {
    const std::string number = name.substr(5);
    if (number.empty() || number.size() > 3 || number.find_first_not_of("0123456789") != std::string::npos ||
        (index = std::stoi(number)) >= count)
      fail_usage("--device {} is not one of the {} GPUs here (cuda:0 ... cuda:{})", name, count, count - 1);
  }
  // Now, because the allocator knows no device before, and memory is asked for before the first tensor is made.
  at::globalContext().lazyInitDevice(at::kCUDA);
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

}  // namespace longtake
