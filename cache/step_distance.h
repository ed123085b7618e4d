// How far a denoising step lies from the one before, measured on the timestep embedding alone.
//
// MotionCache on SkyReels-V2 (spec motioncache.md 1.3): r(s) = mean|E(t_s) - E(t_{s-1})| / (mean|E(t_{s-1})| + 1e-8), then the
// TeaCache polynomial. It depends on the schedule only, so it is a table made before the run.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace longtake {

struct DistancePolynomial {
  std::array<double, 5> coefficients;  // highest degree first

  double operator()(double r) const;

  // As above, but held at zero below its smallest useful root and at its maximum beyond it: the fitted polynomials turn
  // negative outside the range they were fitted on, where the reference silently delays updates (spec 4, 6).
  double monotone(double r) const;
};

// TeaCache's fits for Wan 2.1 with retention steps (spec motioncache.md 1.3).
inline constexpr DistancePolynomial kWan1_3B{{-5.21862437e4, 9.23041404e3, -5.28275948e2, 1.36987616e1, -4.99875664e-2}};
inline constexpr DistancePolynomial kWan14B{{-3.03318725e5, 4.90537029e4, -2.65530556e3, 5.87365115e1, -3.15583525e-1}};

// "C4/C3/C2/C1/C0", five finite numbers, as `longtake calibrate` prints them; nothing where the text is something else.
std::string to_text(const DistancePolynomial& polynomial);
std::optional<DistancePolynomial> parse_polynomial(std::string_view text);

// How relative changes become distances: through the model's polynomial, or as they are.
enum class DistanceRule { polynomial, linear };

// r(s) for s = 1 ... n-1; entry 0 is 0. `embedding(t)` gives the conditioning vector, float32 on the host.
std::vector<double> relative_step_change(std::span<const double> timesteps,
                                         const std::function<at::Tensor(double)>& embedding);

// Sizes and differences of conditioning vectors, remembered by timestep: what a change of a whole row is made of.
class ConditioningChange {
 public:
  // As for relative_step_change.
  explicit ConditioningChange(std::function<at::Tensor(double)> embedding) : embedding_(std::move(embedding)) {}

  double size(double t);                 // mean|E(t)|
  double between(double from, double to);  // mean|E(to) - E(from)|

 private:
  const at::Tensor& vector(double t);

  std::function<at::Tensor(double)> embedding_;
  std::map<double, at::Tensor> vectors_;
  std::map<std::pair<double, double>, double> changes_;
};

}  // namespace longtake
