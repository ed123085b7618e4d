// What a run is made of, whatever the model's family: windows that are made one after another, their chunks and rows. It is all that run
// folders, progress and reports know of a family. A MAGI-1 video is one window whose chunks finish in order.
#pragma once

#include <cstdint>
#include <vector>

namespace longtake {

struct RunLayout {
  struct Chunk {
    int first = 0, frames = 0;  // latent frames, as RowEnd::latents counts them
    int last_row = -1;          // that brings it to its last step; -1 where it is given
    int place = 0;              // latent frame of the video that it begins with; an end picture's lies behind the last
  };

  struct Window {
    std::vector<Chunk> chunks;  // those that are given come first, the others finish in this order
    int given = 0;              // how many of them are
    int rows = 0, steps = 0;    // of the schedule; of a chunk
    int prefix = 0;             // latent frames that it begins with: given, or taken over from the window before
    int apart = 0;              // how many of these no chunk of its own holds; the rest begin the first one that is denoised
    bool carried = false;       // the prefix is the end of the window before as it is
    bool end_picture = false;   // one more latent frame is given, in a chunk of its own: what it leads to (window_chunks)

    // Those that it shows: without the end picture's.
    int latent_frames() const {
      int frames = end_picture ? -1 : 0;
      for (const Chunk& chunk : chunks) frames += chunk.frames;
      return frames;
    }
  };

  int64_t channels = 0, height = 0, width = 0;  // of latents
  int latent_frames = 0;                        // of the video
  int missing_frames = 0;                       // of the four that a latent frame stands for, how many the first one lacks
  int overlap = 0;                              // latent frames that a carried prefix reaches back
  std::vector<Window> windows;

  int rows() const {
    int rows = 0;
    for (const Window& window : windows) rows += window.rows;
    return rows;
  }
  // Chunks that are not given.
  int chunks() const {
    int chunks = 0;
    for (const Window& window : windows) chunks += static_cast<int>(window.chunks.size()) - window.given;
    return chunks;
  }
};

}  // namespace longtake
