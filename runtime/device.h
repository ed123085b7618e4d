// The device of a run. CUDA is loaded when it is asked for: the program links LibTorch's CPU half alone, so it starts
// anywhere, and LibTorch's CUDA half registers its kernels as it is loaded.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace longtake {

// "cpu", "cuda", "cuda:N" or "auto" (the first GPU where there is one, else the CPU).
// Errors: usage for another text, or a GPU that is not there; bad_file where LibTorch has no CUDA half.
at::Device open_device(const std::string& name);

}  // namespace longtake
