#pragma once

namespace longtake::bench {

// A row's attention by our kernel and by cuDNN.
void time_attention();

// What plans of cuDNN's cost.
void time_plans();

}  // namespace longtake::bench
