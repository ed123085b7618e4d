// How frames come to a video that grows while it is made (video_io/writer.h), and how many of them wait for the end of a fragment: what
// the writer cuts by, and the memory plan counts.
#pragma once

#include <algorithm>
#include <cstdint>

namespace longtake {

// Frames of the shortest fragment: half a second. A group of pictures of its own costs bits, and one of a few frames leaves no room for
// reordering.
constexpr int64_t shortest_fragment(int fps) { return std::max(8, fps / 2); }

// Frames of the longest one where they come `pushed` at once: it ends with a push.
constexpr int64_t longest_fragment(int fps, int64_t pushed) { return (shortest_fragment(fps) + pushed - 1) / pushed * pushed; }

// Frames at once that a video which is gone on from is shown in, at most.
inline constexpr int64_t kShownAtOnce = 32;

}  // namespace longtake
