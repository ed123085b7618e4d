// Draws the clips of the demo world, from which the demo model learns: one filled, anti-aliased shape that moves for ever over a
// still texture. Everything follows from the scene and a seed, on every machine alike (integer random numbers, no LibTorch generator).
//
// Motions never end, so that a window of a long video may begin anywhere: subjects that move straight leave the frame completely and
// come in again on the other side; "diagonally" is from the upper left to the lower right, "in a circle" is clockwise.
// A small model can learn how a thin arm falls on the grid of latents only if that does not happen in endlessly many ways. So
// subjects start on a grid of kGrid pixels and cover 3 pixels in the four frames of a latent frame on each moving axis; one turn
// takes 96 frames. A clip that starts at the beginning shows the whole subject for at least 81 frames, mostly for all 97 of a window.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "models/demo/world.h"

namespace longtake::demo {

// splitmix64: small, seedable, the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  double uniform(double low = 0, double high = 1);
  int below(int count);  // 0 ... count - 1

 private:
  uint64_t state_;
};

enum class Start {
  beginning,  // where such a motion starts: "left to right" at the left
  anywhere    // any phase of the motion, as a later window of a long video sees it
};

inline constexpr int kGrid = 8;  // pixels: one latent

class Clip {
 public:
  Clip(const Scene& scene, Start start, uint64_t seed);

  const Scene& scene() const { return scene_; }
  double radius() const { return radius_of(scene_.size); }

  // Centre of the subject in pixels, x to the right and y downwards, of any frame >= 0.
  std::pair<double, double> position(int frame) const;

  // Frames [first, first + count) as float32 [3, count, kClipSize, kClipSize] in [-1, 1].
  at::Tensor frames(int first, int count) const;

 private:
  Scene scene_;
  double x_, y_, vx_ = 0, vy_ = 0;              // pixels, pixels a frame
  double orbit_ = 0, angle_ = 0, turn_ = 0;     // pixels, radians, radians a frame
  int roll_x_, roll_y_;                         // the texture's offset, multiples of 16 pixels
  double brightness_;                           // 8-bit levels
};

// A scene for training: uniform over all that is not held out.
Scene random_training_scene(Random& random);

}  // namespace longtake::demo
