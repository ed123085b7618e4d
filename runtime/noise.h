// Seeded normal noise that is the same on every machine, device and compiler.
//
// Philox4x32-10 (base/philox.h) gives 4 random words for each 128-bit counter under a 64-bit key. key = seed; counter =
// {block low, block high, stream low, stream high}; words (0,1) and (2,3) of block i/4 become elements i..i+3 by
// Box-Muller. Element i of a stream thus depends on (seed, stream, i) alone: a longer tensor extends a shorter one, and
// nothing has to be drawn in order.
//
// The transform uses only IEEE additions, multiplications, divisions and square roots in double (own series for log,
// sin and cos; noise.cpp is compiled without contraction to fused operations), so no math library has a say in the
// bits.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>

#include "base/philox.h"
#include "cache/state.h"

namespace longtake {

// What a stream is for. Values are part of what a seed means: append, never renumber.
enum class NoiseKind : uint8_t {
  latents = 1,  // start of window `window`
  prefix = 2,   // noise on the prefix of window `window` in schedule row `row`
};

// (kind, window, row) as the 64-bit stream number: kind in the top 8 bits, then 24 bits of window, 32 bits of row.
uint64_t noise_stream(NoiseKind kind, int window, int row = 0);

// Standard normal numbers, float32 on the CPU; |x| <= 6.77.
at::Tensor normal(uint64_t seed, uint64_t stream, at::IntArrayRef shape);

// Where a run goes on: the next window whose latents are drawn, and the next row that draws prefix noise, if any does.
struct NextNoise {
  int window = 0;
  int prefix_window = 0, prefix_row = 0;
};

// The noise of a run. Shapes are [channels, latent frames, height, width]; results are float32 on the CPU.
class NoiseSource {
 public:
  virtual ~NoiseSource() = default;
  // What window `window` starts from.
  virtual at::Tensor latents(int window, at::IntArrayRef shape) = 0;
  // What is mixed into the model's view of the prefix of `window` in schedule row `row`.
  virtual at::Tensor prefix(int window, int row, at::IntArrayRef shape) = 0;

  // Where a sequential generator stands; names begin with "noise/". Nothing where noise depends on position alone.
  virtual void save(State& /*state*/) const {}
  // `next`: what will be drawn next; a state that does not lead there is refused (bad_file).
  virtual void load(const State& /*state*/, const NextNoise& /*next*/) {}
};

// The default: one Philox seed, a stream each.
class PhiloxNoise : public NoiseSource {
 public:
  explicit PhiloxNoise(uint64_t seed) : seed_(seed) {}
  at::Tensor latents(int window, at::IntArrayRef shape) override;
  at::Tensor prefix(int window, int row, at::IntArrayRef shape) override;

 private:
  uint64_t seed_;
};

// The reference programs' noise, for parity runs: LibTorch's CPU generator seeded with `seed` draws the latents window
// after window; a second one seeded with `global_seed` draws the prefix noise row after row. Both are sequential, so
// calls must come in the order of the run (checked for the windows), and a window without a prefix must not ask for
// any.
class TorchNoise : public NoiseSource {
 public:
  TorchNoise(uint64_t seed, uint64_t global_seed);
  at::Tensor latents(int window, at::IntArrayRef shape) override;
  at::Tensor prefix(int window, int row, at::IntArrayRef shape) override;
  void save(State& state) const override;
  void load(const State& state, const NextNoise& next) override;

 private:
  bool draws_next(int window, int row) const;  // whether prefix noise of this row is the next in order

  at::Generator latents_, prefix_;
  int next_window_ = 0;
  int prefix_window_ = 0, prefix_row_ = -1;  // the last one drawn
};

}  // namespace longtake
