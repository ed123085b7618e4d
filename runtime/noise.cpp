#include "runtime/noise.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error.h"

namespace longtake {
namespace {

// Coefficients of Horner's scheme, highest order first; divided at compile time, because division is what would take
// the time.
constexpr std::array<double, 11> kAtanh = {1. / 21, 1. / 19, 1. / 17, 1. / 15, 1. / 13, 1. / 11,
                                           1. / 9,  1. / 7,  1. / 5,  1. / 3,  1.};
constexpr std::array<double, 8> kCos = {1. / (16 * 15), 1. / (14 * 13), 1. / (12 * 11), 1. / (10 * 9),
                                        1. / (8 * 7),   1. / (6 * 5),   1. / (4 * 3),   1. / (2 * 1)};
constexpr std::array<double, 8> kSin = {1. / (16 * 17), 1. / (14 * 15), 1. / (12 * 13), 1. / (10 * 11),
                                        1. / (8 * 9),   1. / (6 * 7),   1. / (4 * 5),   1. / (2 * 3)};

// log(u) for u = (word + 0.5) / 2^32, exact in double; relative error below 1e-15.
double log_uniform(uint32_t word) {
  const double u = (word + 0.5) * 0x1p-32;
  const uint64_t bits = std::bit_cast<uint64_t>(u);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    ++exponent;
  }
  // log m = 2 atanh((m - 1) / (m + 1)), |f| <= 0.172.
  const double f = (mantissa - 1) / (mantissa + 1), f2 = f * f;
  double sum = 0;
  for (double coefficient : kAtanh) sum = sum * f2 + coefficient;
  return exponent * 0.6931471805599453 + 2 * f * sum;
}

// cos and sin of word / 2^32 of a turn; absolute error below 1e-15.
void cos_sin_turn(uint32_t word, double& cosine, double& sine) {
  const uint32_t quadrant = (word + 0x20000000u) >> 30;  // the nearest quarter turn; 2^32 wraps to 0, as it should
  const int32_t rest = static_cast<int32_t>(word - (quadrant << 30));
  const double a = rest * (6.283185307179586 * 0x1p-32), a2 = a * a;  // |a| <= pi/4
  double c = 1, s = 1;
  for (size_t i = 0; i < kCos.size(); ++i) {
    c = 1 - c * a2 * kCos[i];
    s = 1 - s * a2 * kSin[i];
  }
  s *= a;
  switch (quadrant & 3) {
    case 0:
      cosine = c, sine = s;
      break;
    case 1:
      cosine = -s, sine = c;
      break;
    case 2:
      cosine = -c, sine = -s;
      break;
    default:
      cosine = s, sine = -c;
      break;
  }
}

std::array<float, 4> normal_block(uint64_t seed, uint64_t stream, uint64_t block) {
  const auto words = philox4x32_10({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                                    static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                                   {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  std::array<float, 4> out;
  for (int pair = 0; pair < 2; ++pair) {
    const double radius = std::sqrt(-2 * log_uniform(words[2 * pair]));
    double cosine, sine;
    cos_sin_turn(words[2 * pair + 1], cosine, sine);
    out[2 * pair] = static_cast<float>(radius * cosine);
    out[2 * pair + 1] = static_cast<float>(radius * sine);
  }
  return out;
}

}  // namespace

uint64_t noise_stream(NoiseKind kind, int window, int row) {
  LONGTAKE_CHECK(window >= 0 && window < (1 << 24) && row >= 0, "window {}, row {}", window, row);
  return uint64_t{static_cast<uint8_t>(kind)} << 56 | uint64_t{static_cast<uint32_t>(window)} << 32 |
         static_cast<uint32_t>(row);
}

at::Tensor normal(uint64_t seed, uint64_t stream, at::IntArrayRef shape) {
  at::Tensor out = at::empty(shape, at::kFloat);
  float* data = out.mutable_data_ptr<float>();
  const int64_t count = out.numel();
  for (int64_t first = 0; first < count; first += 4) {
    const auto block = normal_block(seed, stream, static_cast<uint64_t>(first) / 4);
    std::copy_n(block.begin(), std::min<int64_t>(4, count - first), data + first);
  }
  return out;
}

at::Tensor PhiloxNoise::latents(int window, at::IntArrayRef shape) {
  return normal(seed_, noise_stream(NoiseKind::latents, window), shape);
}

at::Tensor PhiloxNoise::prefix(int window, int row, at::IntArrayRef shape) {
  return normal(seed_, noise_stream(NoiseKind::prefix, window, row), shape);
}

TorchNoise::TorchNoise(uint64_t seed, uint64_t global_seed)
    : latents_(at::make_generator<at::CPUGeneratorImpl>(seed)),
      prefix_(at::make_generator<at::CPUGeneratorImpl>(global_seed)) {}

at::Tensor TorchNoise::latents(int window, at::IntArrayRef shape) {
  LONGTAKE_CHECK(window == next_window_, "windows are drawn in order: expected {}, got {}", next_window_, window);
  ++next_window_;
  return at::randn(shape, latents_, at::TensorOptions(at::kFloat));
}

bool TorchNoise::draws_next(int window, int row) const {
  return window == prefix_window_ ? row == prefix_row_ + 1 : window > prefix_window_ && row == 0;
}

at::Tensor TorchNoise::prefix(int window, int row, at::IntArrayRef shape) {
  LONGTAKE_CHECK(draws_next(window, row), "prefix noise is drawn in order: window {} row {} after window {} row {}",
                 window, row, prefix_window_, prefix_row_);
  prefix_window_ = window;
  prefix_row_ = row;
  return at::randn(shape, prefix_, at::TensorOptions(at::kFloat));
}

void TorchNoise::save(State& state) const {
  state.put("noise/latents", latents_.get_state());
  state.put("noise/prefix", prefix_.get_state());
  state.put_integers("noise/drawn", {next_window_, prefix_window_, prefix_row_});
}

void TorchNoise::load(const State& state, const NextNoise& next) {
  const auto drawn = state.integers("noise/drawn", 3);
  next_window_ = static_cast<int>(drawn[0]);
  prefix_window_ = static_cast<int>(drawn[1]);
  prefix_row_ = static_cast<int>(drawn[2]);
  if (next_window_ != next.window || !draws_next(next.prefix_window, next.prefix_row))
    state.refuse(fmt::format("'noise/drawn' should lead to window {}, and to window {} and row {} of the prefix noise, found {} and behind {} and {}",
                             next.window, next.prefix_window, next.prefix_row, drawn[0], drawn[1], drawn[2]));
  for (const auto& [name, generator] : {std::pair("noise/latents", &latents_), std::pair("noise/prefix", &prefix_)}) {
    const at::Tensor saved = state.get(name, generator->get_state().sizes(), at::kByte).clone();
    try {
      generator->set_state(saved);
    } catch (const c10::Error&) {
      state.refuse(fmt::format("'{}' is no state of a generator", name));
    }
  }
}

}  // namespace longtake
