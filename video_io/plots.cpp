#include "video_io/plots.h"

#include "video_io/tiles.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace longtake {
namespace {

constexpr double kWidth = 640, kHeight = 320, kLeft = 64, kRight = 16, kTop = 14, kBottom = 46;

// Maps a range of values to a range of the drawing.
struct Axis {
  double low = 0, high = 1, from = 0, to = 1;
  std::vector<double> ticks;

  Axis(double min, double max, double from_px, double to_px, int count) : from(from_px), to(to_px) {
    if (!(max > min)) {
      const double room = std::max(std::abs(min) * 0.05, 0.5);
      min -= room, max += room;
    }
    ticks = axis_ticks(min, max, count);
    const double margin = (max - min) * 0.05;
    low = min - margin, high = max + margin;
  }
  double operator()(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    if (std::isfinite(value)) low = std::min(low, value), high = std::max(high, value);
  }
  bool empty() const { return !(low <= high); }
};

std::string open_svg(const std::string& title, double width, double height) {
  return fmt::format(
      "<svg class=\"plot\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\"><title>{}</title>\n", width,
      height, html_text(title), html_text(title));
}

std::string tick_text(double value) { return fmt::format("{:.6g}", std::abs(value) < 1e-12 ? 0.0 : value); }

std::string frame_svg(const Axis& x, const Axis& y, const std::string& x_label, const std::string& y_label) {
  std::string out;
  for (const double tick : y.ticks)
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/><text class=\"tick\" "
        "x=\"{3:.1f}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
        kLeft, kWidth - kRight, y(tick), kLeft - 6, y(tick) + 4, tick_text(tick));
  for (const double tick : x.ticks)
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\"/><text class=\"tick\" "
        "x=\"{0:.1f}\" y=\"{3:.1f}\" text-anchor=\"middle\">{4}</text>\n",
        x(tick), kTop, kHeight - kBottom, kHeight - kBottom + 16, tick_text(tick));
  out += fmt::format("<rect class=\"axis\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>\n", kLeft,
                     kTop, kWidth - kLeft - kRight, kHeight - kTop - kBottom);
  out += fmt::format("<text class=\"label\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                     (kLeft + kWidth - kRight) / 2, kHeight - 8, html_text(x_label));
  out += fmt::format(
      "<text class=\"label\" transform=\"translate(14 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      (kTop + kHeight - kBottom) / 2, html_text(y_label));
  return out;
}

std::string marker(int style, double x, double y, double r) {
  switch (style % 5) {
    case 0:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"/>", x, y, r);
    case 1:
      return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>", x - r * 0.9,
                         y - r * 0.9, r * 1.8, r * 1.8);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l{:.1f} {:.1f}h{:.1f}z\"/>", x, y - r * 1.1, r * 1.1, r * 2,
                         -r * 2.2);
    case 3:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l{:.1f} {:.1f}l{:.1f} {:.1f}l{:.1f} {:.1f}z\"/>", x, y - r * 1.25,
                         r * 1.25, r * 1.25, -r * 1.25, r * 1.25, -r * 1.25, -r * 1.25);
    default:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l{:.1f} {:.1f}h{:.1f}z\"/>", x, y + r * 1.1, r * 1.1, -r * 2,
                         -r * 2.2);
  }
}

struct Box {
  double left, top, right, bottom;
  bool meets(const Box& o) const { return left < o.right && o.left < right && top < o.bottom && o.top < bottom; }
  bool inside() const { return left > kLeft && right < kWidth - kRight && top > kTop && bottom < kHeight - kBottom; }
};

struct NamePlace {
  double x, y;  // of the text's baseline
  bool left;    // the text ends there
  Box box;
};

// The free place for a name nearest to its marker: right or left of it, then further up and down.
NamePlace place_name(double x, double y, double width, const std::vector<Box>& taken) {
  NamePlace first{};
  for (int i = 0; i < 24; ++i) {
    const bool left = i % 2;
    const double shift = (i / 2 % 2 ? -1 : 1) * 12.0 * ((i / 2 + 1) / 2);
    NamePlace place{x + (left ? -10 : 10), y + 4 + shift, left, {}};
    place.box = {left ? place.x - width : place.x, place.y - 10, left ? place.x : place.x + width, place.y + 2};
    if (i == 0) first = place;
    if (place.box.inside() &&
        std::none_of(taken.begin(), taken.end(), [&](const Box& box) { return box.meets(place.box); }))
      return place;
  }
  return first;
}

const char* dash(int style) {
  static constexpr const char* dashes[] = {"none", "7 3", "2 3", "9 3 2 3", "4 2"};
  return dashes[style % 5];
}

}  // namespace

std::string html_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
    }
  }
  return out;
}

std::string short_label(const std::string& label) {
  constexpr size_t longest = 40;
  if (label.size() <= longest) return label;
  size_t end = longest - 2;
  while (end > 0 && (static_cast<unsigned char>(label[end]) & 0xC0) == 0x80) --end;
  return label.substr(0, end) + "…";
}

std::vector<double> axis_ticks(double low, double high, int count) {
  std::vector<double> ticks;
  if (!(high > low) || count < 1) return ticks;
  const double rough = (high - low) / count, power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double nice : {1.0, 2.0, 5.0})
    if (rough <= nice * power * 1.0001) {
      step = nice * power;
      break;
    }
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + step * 1e-9; ++k)
    ticks.push_back(k * step + 0.0);  // no minus zero
  return ticks;
}

std::string marker_svg(int style) {
  return fmt::format("<svg class=\"mark s{}\" viewBox=\"0 0 12 12\" aria-hidden=\"true\">{}</svg>",
                     style % kSeriesStyles, marker(style, 6, 6, 4));
}

std::string scatter_svg(const ScatterPlot& plot) {
  Range xs, ys;
  xs.add(0);
  for (const PlotPoint& p : plot.points) {
    xs.add(p.x), ys.add(p.y);
    if (p.y_interval) ys.add(p.y_interval->low), ys.add(p.y_interval->high);
  }
  if (ys.empty()) return "";
  const Axis x(xs.low, xs.high, kLeft, kWidth - kRight, 6), y(ys.low, ys.high, kHeight - kBottom, kTop, 6);
  std::string out = open_svg(plot.title, kWidth, kHeight) + frame_svg(x, y, plot.x_label, plot.y_label);
  std::vector<Box> taken;  // markers and names so far: names keep clear of both
  for (const PlotPoint& p : plot.points) taken.push_back({x(p.x) - 6, y(p.y) - 6, x(p.x) + 6, y(p.y) + 6});
  for (const PlotPoint& p : plot.points) {
    out += fmt::format("<g class=\"s{}\"><title>{}: {:.4g}, {:.4g}</title>", p.style % kSeriesStyles,
                       html_text(p.label), p.x, p.y);
    if (p.y_interval)
      out += fmt::format("<line class=\"bar\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\"/>", x(p.x),
                         y(p.y_interval->low), y(p.y_interval->high));
    const NamePlace place = place_name(x(p.x), y(p.y), 6.2 * static_cast<double>(short_label(p.label).size()), taken);
    taken.push_back(place.box);
    out += marker(p.style, x(p.x), y(p.y), 5);
    out += fmt::format("<text class=\"name\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text></g>\n", place.x,
                       place.y, place.left ? "end" : "start", html_text(short_label(p.label)));
  }
  return out + "</svg>\n";
}

std::string line_svg(const LinePlot& plot) {
  Range ys;
  size_t length = 0;
  for (const PlotSeries& s : plot.series) {
    for (const double value : s.y) ys.add(value);
    length = std::max(length, s.y.size());
  }
  if (ys.empty() || length == 0) return "";
  const Axis x(0, static_cast<double>(length - 1), kLeft, kWidth - kRight, 8),
      y(ys.low, ys.high, kHeight - kBottom, kTop, 6);
  std::string out = open_svg(plot.title, kWidth, kHeight) + frame_svg(x, y, plot.x_label, plot.y_label);
  const auto marks = [&](const std::vector<int64_t>& frames, const char* kind) {
    for (const int64_t frame : frames)
      out += fmt::format("<line class=\"{0}\" x1=\"{1:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{3:.1f}\"/>\n", kind,
                         x(static_cast<double>(frame)), kTop, kHeight - kBottom);
  };
  marks(plot.faint_lines, "chunk");
  marks(plot.strong_lines, "window");
  for (const PlotSeries& s : plot.series) {
    std::string path;
    bool pen_up = true;
    for (size_t i = 0; i < s.y.size(); ++i) {
      if (!std::isfinite(s.y[i])) {
        pen_up = true;
        continue;
      }
      path += fmt::format("{}{:.1f} {:.1f}", pen_up ? "M" : "L", x(static_cast<double>(i)), y(s.y[i]));
      pen_up = false;
    }
    out += fmt::format("<path class=\"line s{}\" stroke-dasharray=\"{}\" d=\"{}\"><title>{}</title></path>\n",
                       s.style % kSeriesStyles, dash(s.style), path, html_text(s.label));
  }
  return out + "</svg>\n";
}

std::string strip_svg(const StripPlot& plot) {
  size_t steps = 0, longest = 0;
  for (const StripRow& row : plot.rows)
    steps = std::max(steps, row.share.size()), longest = std::max(longest, short_label(row.label).size());
  if (steps == 0) return "";
  constexpr double row_height = 22, axis = 40, width = 960;
  const double left = std::min(360.0, 12 + 7.0 * static_cast<double>(longest));
  const double cell = (width - left - 56) / static_cast<double>(steps),
               height = row_height * static_cast<double>(plot.rows.size()) + axis;
  std::string out = open_svg(plot.title, width, height);
  for (size_t r = 0; r < plot.rows.size(); ++r) {
    const StripRow& row = plot.rows[r];
    const double top = row_height * static_cast<double>(r);
    out += fmt::format("<text class=\"name\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", left - 8,
                       top + 15, html_text(short_label(row.label)));
    double sum = 0;
    for (size_t s = 0; s < row.share.size(); ++s) {
      const auto colour = heat_colour(row.share[s]);
      sum += row.share[s];
      out += fmt::format(
          "<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" fill=\"#{:02x}{:02x}{:02x}\"><title>{}, "
          "step {}: {:.0f} %</title></rect>",
          left + cell * static_cast<double>(s), top + 2, cell + 0.3, row_height - 4, colour[0], colour[1], colour[2],
          html_text(row.label), s, 100 * row.share[s]);
    }
    out += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\">{:.0f} %</text>\n", width - 48, top + 15,
                       100 * sum / static_cast<double>(std::max<size_t>(1, row.share.size())));
  }
  for (const double tick : axis_ticks(0, static_cast<double>(steps) - 1, 10))
    if (tick == std::floor(tick))
      out += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.0f}</text>\n",
                         left + cell * (tick + 0.5), height - axis + 16, tick);
  out += fmt::format("<text class=\"label\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                     (left + width - 56) / 2, height - 6, html_text(plot.x_label));
  return out + "</svg>\n";
}

}  // namespace longtake
