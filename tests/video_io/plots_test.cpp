#include "video_io/plots.h"

#include "base/utf8.h"
#include "tests/catch.h"
#include "tests/video_io/markup.h"
#include "video_io/tiles.h"

#include <cmath>
#include <limits>

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("ticks are round, inside, and evenly spaced") {
  for (const auto& [low, high] : {std::pair{0.0, 1.0}, std::pair{-3.2, 17.9}, std::pair{1e-6, 3e-6},
                                  std::pair{26.1, 26.4}, std::pair{0.0, 3.4e12}}) {
    const auto ticks = axis_ticks(low, high, 6);
    INFO(low << " to " << high << ": " << ticks.size());
    CHECK(ticks.size() >= 3);
    CHECK(ticks.size() <= 8);
    const double step = ticks[1] - ticks[0], margin = step * 1e-6;
    for (size_t i = 0; i < ticks.size(); ++i) {
      CHECK(ticks[i] >= low - margin);
      CHECK(ticks[i] <= high + margin);
      CHECK(std::abs(ticks[i] / step - std::round(ticks[i] / step)) < 1e-6);
    }
  }
  CHECK(axis_ticks(1, 1, 5).empty());
  CHECK_FALSE(std::signbit(axis_ticks(-0.0, 7, 5).front()));
}

TEST_CASE("drawings are well formed whatever the labels and numbers are") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string nasty = "<script>alert('x')</script>\"&\x01";
  const std::string scatter = scatter_svg(
      {nasty, "x", nasty, {{nasty, 0, 1e12, 30, Interval{29, 31}}, {"b", 13, 1e12, 30, {}}, {"c", 2, 0, 30, {}}}});
  const std::string line =
      line_svg({nasty, "x", "y", {{nasty, 1, {1, nan, 3, 4}}, {"flat", 2, {5, 5, 5, 5}}}, {2}, {1, 3}});
  const std::string strip = strip_svg({nasty, "step", {{nasty, {0, 0.5, 1}}, {"short", {1}}}});
  for (const std::string& svg : {scatter, line, strip, marker_svg(7)}) {
    INFO(svg);
    CHECK(markup_fault(svg) == "");
    CHECK(svg.find("<script") == std::string::npos);
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.find("inf") == std::string::npos);
  }
  CHECK_THAT(scatter, ContainsSubstring("&lt;script&gt;"));
  // A gap lifts the pen.
  CHECK_THAT(line, ContainsSubstring("M") && ContainsSubstring("L"));
}

TEST_CASE("long labels are cut between characters") {
  CHECK(short_label("motioncache:slow") == "motioncache:slow");
  for (int shift = 0; shift < 4; ++shift) {
    std::string label(static_cast<size_t>(shift), 'x');
    for (int i = 0; i < 30; ++i) label += "ü";
    const std::string cut = short_label(label);
    CHECK(cut.size() < 43);
    CHECK(is_utf8(cut));
    CHECK_THAT(cut, ContainsSubstring("…"));
  }
}

TEST_CASE("nothing to draw is no drawing") {
  CHECK(scatter_svg({}) == "");
  CHECK(line_svg({}) == "");
  CHECK(line_svg({"t", "x", "y", {{"a", 0, {std::numeric_limits<double>::quiet_NaN()}}}, {}, {}}) == "");
  CHECK(strip_svg({}) == "");
}

TEST_CASE("heat colours grow brighter") {
  double before = -1;
  for (int i = 0; i <= 100; ++i) {
    const auto [r, g, b] = heat_colour(i / 100.0);
    const double luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    CHECK(luma > before);
    before = luma;
  }
  CHECK(heat_colour(-1) == heat_colour(0));
  CHECK(heat_colour(2) == heat_colour(1));
}
