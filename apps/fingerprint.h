// What tells one set of weights from another, without reading all of it.
#pragma once

#include <string>

#include "runtime/recipe.h"

namespace longtake {

// SHA-256 over names, sizes and 64 KiB at 17 places of every file of the model: files of any size take milliseconds, and
// weights that were trained further differ nearly everywhere.
std::string weights_fingerprint(const ModelFiles& files);

}  // namespace longtake
