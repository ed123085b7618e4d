// The demo world: the vocabulary of the clips on which the demo model is trained, and on which its videos are judged.
//
// A clip shows one filled shape that moves over a still, textured background of low saturation. The training tool draws
// clips from a Scene, `longtake metrics` reads a Scene back from a generated clip and compares it with what
// parse_caption finds in the prompt. Both take names, colours and outlines from here and from nowhere else. No OpenCV,
// FFmpeg or LibTorch.
//
// Units: 8-bit sRGB; pixels with x to the right and y downwards; clips of kClipSize x kClipSize pixels. Outlines are in
// units of the subject's radius, radius_of(size) pixels at kClipSize.
// Errors: LONGTAKE_CHECK for a caption style out of range; parse_caption accepts any text, also empty or binary.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace longtake::demo {

enum class Shape { circle, square, triangle, star, diamond, cross };
enum class Colour { red, green, blue, yellow, purple, orange, white, cyan };
enum class Size { normal, small, large };  // normal is not said in captions
enum class Motion { left_to_right, right_to_left, upwards, downwards, diagonal, circular, still };
enum class Background { grass, sand, water, brick, night_sky, wood };

inline constexpr std::array<std::string_view, 6> kShapeNames = {"circle", "square",  "triangle",
                                                                "star",   "diamond", "cross"};
inline constexpr std::array<std::string_view, 8> kColourNames = {"red",    "green",  "blue",  "yellow",
                                                                 "purple", "orange", "white", "cyan"};
inline constexpr std::array<std::string_view, 3> kSizeNames = {"normal", "small", "large"};
inline constexpr std::array<std::string_view, 7> kMotionNames = {
    "left to right", "right to left", "upwards", "downwards", "diagonal", "circular", "still"};
inline constexpr std::array<std::string_view, 6> kBackgroundNames = {"grass", "sand",      "water",
                                                                     "brick", "night sky", "wood"};

inline std::string_view name(Shape value) { return kShapeNames[static_cast<size_t>(value)]; }
inline std::string_view name(Colour value) { return kColourNames[static_cast<size_t>(value)]; }
inline std::string_view name(Size value) { return kSizeNames[static_cast<size_t>(value)]; }
inline std::string_view name(Motion value) { return kMotionNames[static_cast<size_t>(value)]; }
inline std::string_view name(Background value) { return kBackgroundNames[static_cast<size_t>(value)]; }

struct Rgb {
  uint8_t r, g, b;
};

// The subject's colour, by Colour.
inline constexpr std::array<Rgb, 8> kColours = {{{220, 40, 40},
                                                 {40, 180, 60},
                                                 {50, 90, 230},
                                                 {240, 210, 40},
                                                 {150, 60, 200},
                                                 {245, 140, 30},
                                                 {245, 245, 245},
                                                 {40, 200, 210}}};

// The mean colour of a background, by Background. Textures stay within about 30 levels of it, and so well below the
// saturation of the coloured subjects and the lightness of the white one.
inline constexpr std::array<Rgb, 6> kBackgroundTones = {
    {{92, 108, 84}, {150, 138, 116}, {84, 104, 116}, {124, 98, 88}, {30, 32, 44}, {108, 90, 72}}};

inline constexpr int kClipSize = 128;

// The radius in pixels at kClipSize that a size stands for: small 16, normal 20, large 24.
double radius_of(Size size);

// Outline of a shape as a closed polygon in units of the radius, centroid at (0, 0), y downwards, never rotated. Areas
// lie between 1.4 (cross) and 3.2 (circle, 64 corners; square).
const std::vector<std::array<double, 2>>& outline(Shape shape);

// Whether a point, in units of the radius from the centre, lies within the shape (even-odd rule; the circle is exact).
bool contains(Shape shape, double x, double y);

// The largest distance of an outline point from the centre, in units of the radius; at most 1.26.
double extent(Shape shape);

struct Scene {
  Shape shape = Shape::circle;
  Colour colour = Colour::red;
  Size size = Size::normal;
  Motion motion = Motion::still;
  Background background = Background::grass;

  bool operator==(const Scene&) const = default;
};

// What a prompt says; nothing where it does not say.
struct SceneQuery {
  std::optional<Shape> shape;
  std::optional<Colour> colour;
  std::optional<Size> size;
  std::optional<Motion> motion;
  std::optional<Background> background;

  bool operator==(const SceneQuery&) const = default;
};

inline constexpr int kCaptionStyles = 6;

// The caption of a scene; style 0 is the plain form, "a small red circle moves from left to right over grass", and 1 ..
// kCaptionStyles - 1 say the same in other words. parse_caption reads every style back.
std::string caption(const Scene& scene, int style = 0);

// Finds shape, colour, size, motion and background in free text, synonyms included ("disc", "rises", "to the right").
// Case, punctuation and order do not matter. The colour is the one named next to the shape ("a red ball over green
// grass").
SceneQuery parse_caption(std::string_view text);

// All 6048 scenes, shape varying slowest and background fastest.
std::vector<Scene> all_scenes();

// A fixed eleventh of all combinations of shape, colour, motion and background (whatever the size), in which every
// single value of each occurs. Training never draws them; quality is measured on them.
bool held_out(const Scene& scene);

}  // namespace longtake::demo
