#include "tools/train/plot.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace longtake::train {
namespace {

struct Curve {
  std::string title, unit;
  std::vector<std::pair<double, double>> points;  // step, value
};

Curve read_curve(const std::filesystem::path& path, const char* name, std::string title, std::string unit) {
  Curve curve{std::move(title), std::move(unit), {}};
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const auto entry = nlohmann::json::parse(line, nullptr, false);
    if (entry.is_discarded() || !entry.contains(name)) fail_file("{} is no training log: '{}'", path.string(), line);
    curve.points.emplace_back(entry["step"].get<double>(), entry[name].get<double>());
  }
  if (curve.points.size() < 2) fail_file("{} is missing or has fewer than two entries; train first", path.string());
  return curve;
}

std::string draw(const Curve& curve, double left) {
  constexpr double width = 330, height = 180, top = 40;
  double lowest = curve.points[0].second, highest = lowest;
  for (const auto& [step, value] : curve.points) lowest = std::min(lowest, value), highest = std::max(highest, value);
  const double last = curve.points.back().first, range = std::max(highest - lowest, 1e-9);
  std::string line;
  for (const auto& [step, value] : curve.points)
    line += fmt::format("{:.1f},{:.1f} ", left + width * step / last, top + height * (highest - value) / range);
  std::string out = fmt::format("<rect x='{}' y='{}' width='{}' height='{}' fill='none' stroke='#999'/>\n", left, top, width, height);
  out += fmt::format("<polyline fill='none' stroke='#1f77b4' stroke-width='1.5' points='{}'/>\n", line);
  out += fmt::format("<text x='{}' y='{}'>{}</text>\n", left, top - 12, curve.title);
  out += fmt::format("<text x='{}' y='{}' text-anchor='end'>{:.3g}</text>\n", left - 4, top + 10, highest);
  out += fmt::format("<text x='{}' y='{}' text-anchor='end'>{:.3g}</text>\n", left - 4, top + height, lowest);
  out += fmt::format("<text x='{}' y='{}' text-anchor='end'>{:.0f} steps, at the end {:.4g} {}</text>\n", left + width, top + height + 18,
                     last, curve.points.back().second, curve.unit);
  return out;
}

}  // namespace

void plot_losses(const std::filesystem::path& folder, const std::filesystem::path& picture) {
  const Curve vae = read_curve(folder / "vae.jsonl", "psnr", "VAE decoder: reconstruction of noisy latents", "dB");
  const Curve dit = read_curve(folder / "dit.jsonl", "loss", "Transformer and text encoder: flow-matching loss", "");
  std::ofstream out(picture);
  out << "<svg xmlns='http://www.w3.org/2000/svg' width='820' height='260' font-family='sans-serif' font-size='12'>\n"
         "<rect width='820' height='260' fill='white'/>\n"
      << draw(vae, 60) << draw(dit, 470) << "</svg>\n";
  if (!out.flush()) fail_file("{} cannot be written", picture.string());
}

}  // namespace longtake::train
