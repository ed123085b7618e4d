// Stands in for cudnn/sdpa_fp8.cpp in builds without CUDA kernels or without cudnn-frontend.
#include <stdexcept>

#include "attention/cudnn/sdpa_fp8.h"

namespace longtake::cudnn {

std::unique_ptr<SdpaFp8> open_sdpa_fp8() {
  throw std::runtime_error("this build was made without cudnn-frontend; install nvidia-cudnn-frontend and configure again");
}

}  // namespace longtake::cudnn
