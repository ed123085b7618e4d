// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): 4 random words for each 128-bit counter under
// a 64-bit key, in integers alone, so the same everywhere.
#pragma once

#include <array>
#include <cstdint>

namespace longtake {

std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

}  // namespace longtake
