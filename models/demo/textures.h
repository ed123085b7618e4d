// The still backgrounds of the demo world: one periodic tile each, drawn from fixed seeds within 30 levels of the background's tone.
#pragma once

#include <vector>

#include "models/demo/world.h"

namespace longtake::demo {

// [3][kClipSize][kClipSize] in 8-bit levels; repeats seamlessly in both directions.
const std::vector<float>& texture(Background background);

}  // namespace longtake::demo
