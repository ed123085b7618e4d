// Charts as SVG text for the report: no script, no fonts or files from outside, readable on light and dark paper.
//
// Colours come from CSS classes of the page around them (page_style.h): series i has class s{i mod kSeriesStyles}; axes
// and text use the page's variables. Series also differ by marker or dash, so that colour is not needed to tell them
// apart. Texts are escaped here. NaN in a series is a gap.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "video_io/bootstrap.h"

namespace longtake {

inline constexpr int kSeriesStyles = 10;

// &, <, >, " and ' as entities; control characters as spaces.
std::string html_text(const std::string& text);

// A label that is short enough for a drawing: the whole, or its beginning and an ellipsis. UTF-8 stays whole.
std::string short_label(const std::string& label);

struct PlotPoint {
  std::string label;
  int style = 0;
  double x = 0, y = 0;
  std::optional<Interval> y_interval;
};

struct ScatterPlot {
  std::string title;  // for readers that cannot see it
  std::string x_label, y_label;
  std::vector<PlotPoint> points;
};
std::string scatter_svg(const ScatterPlot& plot);

struct PlotSeries {
  std::string label;
  int style = 0;
  std::vector<double> y;  // at x = 0, 1, 2, ...
};

struct LinePlot {
  std::string title, x_label, y_label;
  std::vector<PlotSeries> series;
  std::vector<int64_t> strong_lines, faint_lines;  // vertical marks: window and chunk borders
};
std::string line_svg(const LinePlot& plot);

struct StripRow {
  std::string label;
  std::vector<double> share;  // 0..1 by step
};

// A row for each policy, a cell for each step, in the colours of the heat maps.
struct StripPlot {
  std::string title, x_label;
  std::vector<StripRow> rows;
};
std::string strip_svg(const StripPlot& plot);

// The marker of a style as a small inline picture, for legends in tables.
std::string marker_svg(int style);

// Round numbers that cover low..high: about `count` of them.
std::vector<double> axis_ticks(double low, double high, int count);

}  // namespace longtake
