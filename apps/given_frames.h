// What a run is given besides its text: a picture to begin with.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "runtime/options.h"

namespace longtake {

// The given frames [3, n, H, W] in [-1, 1] in the video's size; undefined where the options name none. `note` says how they
// were fitted and is empty where nothing was done. Errors: bad_file for what cannot be read (video_io/still.h).
at::Tensor load_given(const GenerateOptions& options, std::string& note);

}  // namespace longtake
