// What `longtake calibrate` measures while a run computes everything: how far the steps of a model really lie apart, how well motion
// says which tokens change, and what other policies would have recomputed.
//
// A cached residual is wrong by as much as the true one has changed since. For each chunk, branch and step the calibration takes
//   change    r = mean|E(t_s) - E(t_{s-1})| / mean|E(t_{s-1})| of the timestep embedding: what policies measure (step_distance.h)
//   residual  mean|R_s - R_{s-1}| / mean|R_{s-1}|: what they want to know (R = last hidden state - embedded input)
//   ranking   NDCG of the motion map at s-1 against the tokens' |R_s - R_{s-1}|_2, as in arXiv 2605.01725, within each latent frame
//             (weights are rescaled by frame) and then averaged; beside it that of a random order, and that of the tokens' own
//             last change |R_{s-1} - R_{s-2}|_2
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cache/motion_map.h"
#include "cache/policy.h"

namespace longtake {

struct StepSample {
  int step = 0;
  double change = 0, residual = 0;
  double ndcg = 0, random_ndcg = 0;  // of motion, of a random order
  std::optional<double> change_ndcg; // of the tokens' last change, from a chunk's third step on
};

// A policy that is asked but not obeyed. It sees the hidden states of complete runs, so what it would recompute is an estimate.
struct Shadow {
  std::string policy;  // "motioncache"
  double threshold = 0;
  std::unique_ptr<CachePolicy> asked;
  double recomputed = 0, tokens = 0;

  double share() const { return tokens > 0 ? recomputed / tokens : 1; }
};

// Gains are `relevance` [n] >= 0 in the order of `score` [n], largest first, discounted by log2(rank + 1), over the best such sum.
double ndcg(const at::Tensor& score, const at::Tensor& relevance);
// The expected value of that over all orders.
double random_ndcg(const at::Tensor& relevance);

// The policy of a calibration run, with causal attention: recomputes everything.
class Calibration final : public CachePolicy {
 public:
  // change[s]: of the embedding at step s; entry 0 is not used.
  Calibration(std::vector<double> change, std::vector<Shadow> shadows, int branches)
      : change_(std::move(change)), shadows_(std::move(shadows)), branches_(branches) {}

  void begin_window(int window) override;
  void begin_row(const RowContext& row) override;
  std::vector<Decision> decide(const StepContext& context) override;
  void observe(const StepContext& context, int branch, const at::Tensor& hidden) override;
  int residuals() const override { return 0; }
  std::string preview(int steps) const override { return std::string(static_cast<size_t>(steps), 'F'); }

  // For DenoiseHooks::on_hidden.
  void measure(const StepContext& context, int branch, const at::Tensor& hidden, const at::Tensor& embedded);

  const std::vector<StepSample>& samples() const { return samples_; }
  const std::vector<Shadow>& shadows() const { return shadows_; }
  const std::vector<double>& change() const { return change_; }

 private:
  struct Seen {
    at::Tensor residual;  // [tokens, dim] float32
    at::Tensor motion;    // [frames, plane]
    at::Tensor moved;     // [frames, plane]: |R_s - R_{s-1}|_2
  };
  std::vector<double> change_;
  std::vector<Shadow> shadows_;
  int branches_;
  MotionMap motion_;
  std::map<std::pair<int, int>, Seen> seen_;  // (chunk, branch)
  std::vector<StepSample> samples_;
};

}  // namespace longtake
