// Stands in for cudnn/sdpa.cpp in builds without CUDA kernels or without cudnn-frontend.
#include <stdexcept>

#include "attention/cudnn/sdpa.h"

namespace longtake::cudnn {

std::unique_ptr<Sdpa> open_sdpa(Plans) {
  throw std::runtime_error("this build was made without cudnn-frontend; install nvidia-cudnn-frontend and configure again");
}

}  // namespace longtake::cudnn
