#include "runtime/calibration_report.h"

#include <Eigen/Dense>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <set>

#include "base/error.h"

namespace longtake {
namespace {

using nlohmann::ordered_json;
constexpr int kGrid = 512;

std::vector<std::string> names_of(std::span<const Shadow> shadows) {
  std::vector<std::string> names;
  for (const Shadow& shadow : shadows)
    if (std::find(names.begin(), names.end(), shadow.policy) == names.end()) names.push_back(shadow.policy);
  return names;
}

struct Ranking {
  double mean = 0, lowest = 1, random = 0, change = 0;
};

Ranking ranking_of(std::span<const StepSample> samples) {
  Ranking out;
  int changes = 0;
  for (const StepSample& s : samples) {
    out.mean += s.ndcg / static_cast<double>(samples.size()), out.random += s.random_ndcg / static_cast<double>(samples.size());
    out.lowest = std::min(out.lowest, s.ndcg);
    if (s.change_ndcg) out.change += *s.change_ndcg, ++changes;
  }
  out.change /= std::max(1, changes);
  return out;
}

struct ByStep {
  double change = 0, residual = 0, ndcg = 0, random = 0;
  int count = 0;
};

std::map<int, ByStep> by_step(std::span<const StepSample> samples) {
  std::map<int, ByStep> steps;
  for (const StepSample& s : samples) {
    ByStep& step = steps[s.step];
    step.change = s.change, step.residual += s.residual, step.ndcg += s.ndcg, step.random += s.random_ndcg, ++step.count;
  }
  for (auto& [index, step] : steps) step.residual /= step.count, step.ndcg /= step.count, step.random /= step.count;
  return steps;
}

std::span<const double> measured(const Calibration& c) { return std::span(c.change()).subspan(std::min<size_t>(1, c.change().size())); }

double linear(double r) { return r; }

}  // namespace

DistanceFit fit_distance(std::span<const StepSample> samples) {
  if (samples.size() < 3) fail_usage("a fit needs three measured steps or more, found {}; take more --steps", samples.size());
  std::set<double> different;
  DistanceFit fit{.low = samples[0].change, .high = samples[0].change};
  for (const StepSample& s : samples) {
    different.insert(s.change);
    fit.low = std::min(fit.low, s.change), fit.high = std::max(fit.high, s.change);
  }
  const int degree = std::min<int>(4, static_cast<int>(different.size()) - 1);
  const double unit = std::max(fit.high, 1e-12);  // powers of numbers near one are told apart best
  const auto rows = static_cast<Eigen::Index>(samples.size());
  Eigen::MatrixXd powers(rows, degree + 1);
  Eigen::VectorXd wanted(rows);
  for (Eigen::Index i = 0; i < rows; ++i) {
    wanted[i] = samples[static_cast<size_t>(i)].residual;
    for (int d = 0; d <= degree; ++d) powers(i, d) = std::pow(samples[static_cast<size_t>(i)].change / unit, d);
  }
  const Eigen::VectorXd solution = powers.colPivHouseholderQr().solve(wanted);
  for (int d = 0; d <= degree; ++d) fit.polynomial.coefficients[static_cast<size_t>(4 - d)] = solution[d] / std::pow(unit, d);
  const double variance = (wanted.array() - wanted.mean()).square().sum();
  fit.r2 = variance > 0 ? 1 - (wanted - powers * solution).squaredNorm() / variance : 1;

  double from = fit.low, before = fit.polynomial(fit.low);
  fit.monotone_from = fit.monotone_to = fit.low;
  for (int i = 1; i <= kGrid; ++i) {
    const double r = fit.low + (fit.high - fit.low) * i / kGrid, value = fit.polynomial(r);
    if (value < before) from = r;
    if (r - from >= fit.monotone_to - fit.monotone_from) fit.monotone_from = from, fit.monotone_to = r;
    before = value;
  }
  return fit;
}

double explained(std::span<const StepSample> samples, const std::function<double(double)>& rule) {
  double xx = 0, xy = 0, sum = 0;
  for (const StepSample& s : samples) {
    const double x = rule(s.change);
    xx += x * x, xy += x * s.residual, sum += s.residual;
  }
  const double scale = xx > 0 ? xy / xx : 0, mean = sum / static_cast<double>(std::max<size_t>(1, samples.size()));
  double left = 0, all = 0;
  for (const StepSample& s : samples) {
    left += std::pow(s.residual - scale * rule(s.change), 2);
    all += std::pow(s.residual - mean, 2);
  }
  return all > 0 ? std::max(0.0, 1 - left / all) : 1;
}

RangeCheck check_range(const DistancePolynomial& polynomial, std::span<const double> changes) {
  // The maximum between the smallest useful change and the second root; the fits are made for changes below 0.2.
  double top = 0;
  for (int i = 0; i <= kGrid; ++i)
    if (const double r = 0.2 * i / kGrid; polynomial(r) > polynomial(top)) top = r;
  RangeCheck check;
  for (const double r : changes) ++check.steps, check.negative += polynomial(r) < 0, check.beyond += r > top;
  return check;
}

Suggestion suggest_threshold(std::span<const Shadow> shadows, const std::string& policy, double share) {
  Suggestion best{.policy = policy}, least{.policy = policy, .share = 2};
  for (const Shadow& shadow : shadows) {
    if (shadow.policy != policy) continue;
    if (shadow.share() < least.share) least.threshold = shadow.threshold, least.share = shadow.share();
    if (shadow.share() > share || (best.reached && shadow.threshold >= best.threshold)) continue;
    best.threshold = shadow.threshold, best.share = shadow.share(), best.reached = true;
  }
  return best.reached ? best : least;
}

ordered_json to_json(const CalibrationReport& report, const Calibration& calibration) {
  const auto& samples = calibration.samples();
  const DistanceFit fit = fit_distance(samples);
  const RangeCheck range = check_range(report.reference, measured(calibration));
  const Ranking ranking = ranking_of(samples);
  ordered_json out{{"model", report.model}, {"runs", report.runs}, {"steps", report.steps}, {"samples", samples.size()}};
  out["by_step"] = ordered_json::array();
  for (const auto& [index, step] : by_step(samples))
    out["by_step"].push_back({{"step", index}, {"embedding_change", step.change}, {"residual_change", step.residual}, {"ndcg", step.ndcg},
                              {"ndcg_random_order", step.random}});
  out["fit"] = {{"distance", to_text(fit.polynomial)}, {"coefficients", fit.polynomial.coefficients}, {"r2", fit.r2},
                {"range", {fit.low, fit.high}}, {"monotone", {fit.monotone_from, fit.monotone_to}},
                {"explained", explained(samples, [&](double r) { return fit.polynomial.monotone(r); })}};
  out["linear"] = {{"explained", explained(samples, linear)}};
  out["reference"] = {{"name", report.reference_name},
                      {"explained", explained(samples, [&](double r) { return report.reference.monotone(r); })},
                      {"steps", range.steps}, {"steps_negative", range.negative}, {"steps_beyond_maximum", range.beyond}};
  out["motion_ranking"] = {{"ndcg_mean", ranking.mean}, {"ndcg_lowest", ranking.lowest}, {"ndcg_random_order", ranking.random},
                          {"ndcg_last_change", ranking.change}};
  out["thresholds"] = ordered_json::array();
  for (const Shadow& shadow : calibration.shadows())
    out["thresholds"].push_back({{"policy", shadow.policy}, {"threshold", shadow.threshold}, {"recomputed_share", shadow.share()}});
  out["suggestions"] = ordered_json::array();
  for (const double speedup : report.speedups)
    for (const std::string& name : names_of(calibration.shadows())) {
      const Suggestion s = suggest_threshold(calibration.shadows(), name, 1 / speedup);
      out["suggestions"].push_back({{"speedup", speedup}, {"policy", name}, {"threshold", s.threshold}, {"recomputed_share", s.share},
                                    {"reached", s.reached}});
    }
  return out;
}

std::string to_text(const CalibrationReport& report, const Calibration& calibration) {
  const auto& samples = calibration.samples();
  const DistanceFit fit = fit_distance(samples);
  const auto changes = measured(calibration);
  const RangeCheck range = check_range(report.reference, changes);
  const Ranking ranking = ranking_of(samples);
  const auto percent = [](double share) { return fmt::format("{:.0f} %", 100 * share); };
  std::string out = fmt::format("{}: {} runs of {} steps, {} measured changes of a chunk\n\n", report.model, report.runs, report.steps, samples.size());
  out += "How well the change of the timestep embedding tells the change of the residual (share of the variance explained, scaled):\n";
  out += fmt::format("  linear              {:>6}{}\n", percent(explained(samples, linear)), report.linear ? "   the recipe's rule" : "");
  out += fmt::format("  polynomial          {:>6}   {}{}\n", percent(explained(samples, [&](double r) { return report.reference.monotone(r); })),
                     report.reference_name, report.linear ? "" : ", the recipe's rule");
  out += fmt::format("  fitted here         {:>6}   distance={}\n",
                     percent(explained(samples, [&](double r) { return fit.polynomial.monotone(r); })), to_text(fit.polynomial));
  out += fmt::format("The fit has R2 {:.3f} for changes from {:.4f} to {:.4f}, and does not fall from {:.4f} to {:.4f}.\n", fit.r2, fit.low, fit.high,
                     fit.monotone_from, fit.monotone_to);
  if (range.negative + range.beyond > 0)
    out += fmt::format("The {} polynomial is out of its range here: it is negative in {} and past its maximum in {} of {} steps.\n",
                       report.reference_name, range.negative, range.beyond, range.steps);
  else
    out += fmt::format("The {} polynomial stays in its range here.\n", report.reference_name);
  out += fmt::format("\nMotion ranks tokens by their true change with NDCG {:.3f} (lowest {:.3f}); a random order has {:.3f}, their own last change {:.3f}.\n",
                     ranking.mean, ranking.lowest, ranking.random, ranking.change);
  out += "\nThresholds, and the share of tokens they recompute (asked of complete runs, so an estimate):\n";
  for (const std::string& name : names_of(calibration.shadows())) {
    out += fmt::format("  {:<12}", name);
    for (const Shadow& shadow : calibration.shadows())
      if (shadow.policy == name) out += fmt::format(" {:.3g}: {}", shadow.threshold, percent(shadow.share()));
    out += '\n';
  }
  for (const double speedup : report.speedups) {
    out += fmt::format("For {:g} times fewer FLOPs than causal:\n", speedup);
    for (const std::string& name : names_of(calibration.shadows())) {
      const Suggestion s = suggest_threshold(calibration.shadows(), name, 1 / speedup);
      out += s.reached ? fmt::format("  --policy {}:threshold={:.3g}   recomputes {}\n", name, s.threshold, percent(s.share))
                       : fmt::format("  {} cannot: at most {:.2f} times, with threshold={:.3g}\n", name, 1 / s.share, s.threshold);
    }
  }
  return out;
}

}  // namespace longtake
