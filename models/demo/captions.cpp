// Captions of the demo world: writing them in several styles and reading attributes back from free text.
#include "models/demo/world.h"

#include "base/error.h"

#include <algorithm>
#include <cstdlib>

namespace longtake::demo {
namespace {

using Words = std::vector<std::string>;

// A phrase of one or more words and what it means.
template <class Value>
struct Phrase {
  std::string_view text;
  Value value;
};

constexpr Phrase<Shape> kShapePhrases[] = {
    {"circle", Shape::circle},   {"disc", Shape::circle},       {"disk", Shape::circle},     {"ball", Shape::circle},
    {"dot", Shape::circle},      {"circles", Shape::circle},    {"square", Shape::square},   {"box", Shape::square},
    {"block", Shape::square},    {"triangle", Shape::triangle}, {"wedge", Shape::triangle},  {"star", Shape::star},
    {"diamond", Shape::diamond}, {"rhombus", Shape::diamond},   {"lozenge", Shape::diamond}, {"cross", Shape::cross},
    {"plus", Shape::cross},      {"plus sign", Shape::cross},
};

constexpr Phrase<Colour> kColourPhrases[] = {
    {"red", Colour::red},       {"crimson", Colour::red},    {"scarlet", Colour::red},   {"green", Colour::green},
    {"blue", Colour::blue},     {"yellow", Colour::yellow},  {"golden", Colour::yellow}, {"purple", Colour::purple},
    {"violet", Colour::purple}, {"orange", Colour::orange},  {"white", Colour::white},   {"cyan", Colour::cyan},
    {"teal", Colour::cyan},     {"turquoise", Colour::cyan}, {"aqua", Colour::cyan},
};

constexpr Phrase<Size> kSizePhrases[] = {
    {"small", Size::small}, {"little", Size::small}, {"tiny", Size::small},
    {"large", Size::large}, {"big", Size::large},    {"huge", Size::large},
};

constexpr Phrase<Background> kBackgroundPhrases[] = {
    {"grass", Background::grass},         {"grassy", Background::grass},     {"lawn", Background::grass},
    {"meadow", Background::grass},        {"sand", Background::sand},        {"sandy", Background::sand},
    {"beach", Background::sand},          {"desert", Background::sand},      {"water", Background::water},
    {"sea", Background::water},           {"ocean", Background::water},      {"lake", Background::water},
    {"brick", Background::brick},         {"bricks", Background::brick},     {"night", Background::night_sky},
    {"night sky", Background::night_sky}, {"starry", Background::night_sky}, {"sky", Background::night_sky},
    {"wood", Background::wood},           {"wooden", Background::wood},      {"planks", Background::wood},
};

constexpr Phrase<Motion> kMotionPhrases[] = {
    {"left to right", Motion::left_to_right},
    {"left to the right", Motion::left_to_right},
    {"to the right", Motion::left_to_right},
    {"towards the right", Motion::left_to_right},
    {"from the left", Motion::left_to_right},
    {"rightwards", Motion::left_to_right},
    {"rightward", Motion::left_to_right},
    {"right to left", Motion::right_to_left},
    {"right to the left", Motion::right_to_left},
    {"from the left to the right", Motion::left_to_right},
    {"from the right to the left", Motion::right_to_left},
    {"to the left", Motion::right_to_left},
    {"towards the left", Motion::right_to_left},
    {"from the right", Motion::right_to_left},
    {"leftwards", Motion::right_to_left},
    {"leftward", Motion::right_to_left},
    {"upwards", Motion::upwards},
    {"upward", Motion::upwards},
    {"bottom to top", Motion::upwards},
    {"from the bottom to the top", Motion::upwards},
    {"to the top", Motion::upwards},
    {"rises", Motion::upwards},
    {"rising", Motion::upwards},
    {"ascends", Motion::upwards},
    {"ascending", Motion::upwards},
    {"climbs", Motion::upwards},
    {"climbing", Motion::upwards},
    {"downwards", Motion::downwards},
    {"downward", Motion::downwards},
    {"top to bottom", Motion::downwards},
    {"from the top to the bottom", Motion::downwards},
    {"to the bottom", Motion::downwards},
    {"falls", Motion::downwards},
    {"falling", Motion::downwards},
    {"descends", Motion::downwards},
    {"descending", Motion::downwards},
    {"sinks", Motion::downwards},
    {"sinking", Motion::downwards},
    {"drops", Motion::downwards},
    {"dropping", Motion::downwards},
    {"diagonally", Motion::diagonal},
    {"diagonal", Motion::diagonal},
    {"corner to corner", Motion::diagonal},
    {"in a circle", Motion::circular},
    {"in circles", Motion::circular},
    {"circles around", Motion::circular},
    {"around in a circle", Motion::circular},
    {"around in circles", Motion::circular},
    {"circling", Motion::circular},
    {"circular", Motion::circular},
    {"orbits", Motion::circular},
    {"orbiting", Motion::circular},
    {"round and round", Motion::circular},
    {"still", Motion::still},
    {"motionless", Motion::still},
    {"static", Motion::still},
    {"stationary", Motion::still},
    {"at rest", Motion::still},
    {"in place", Motion::still},
    {"rests", Motion::still},
    {"resting", Motion::still},
    {"does not move", Motion::still},
    {"doesn t move", Motion::still},
    {"not moving", Motion::still},
    {"without moving", Motion::still},
};

// Bare directions count only after one of these, so that "right now" or "lit up" say nothing about motion.
constexpr Phrase<Motion> kBareDirections[] = {{"right", Motion::left_to_right},
                                              {"left", Motion::right_to_left},
                                              {"up", Motion::upwards},
                                              {"down", Motion::downwards}};
constexpr std::string_view kMotionVerbs[] = {
    "move",    "moves",      "moving",    "go",       "goes",     "going",   "slide",    "slides",
    "sliding", "drift",      "drifts",    "drifting", "float",    "floats",  "floating", "travel",
    "travels", "travelling", "traveling", "glide",    "glides",   "gliding", "fly",      "flies",
    "flying",  "rolls",      "rolling",   "slowly",   "straight", "quickly", "steadily"};

// Lower-case words of ASCII letters and digits; everything else separates.
Words split_words(std::string_view text) {
  Words words;
  bool open = false;
  for (const char c : text) {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const bool letter = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    if (letter && !open) words.emplace_back();
    if (letter) words.back().push_back(lower);
    open = letter;
  }
  return words;
}

struct Text {
  Words words;
  std::vector<bool> used;  // words that a phrase has taken
};

template <class Value>
struct Match {
  Value value;
  size_t first, count;
};

// The longest phrase that starts at a word and uses none that is taken.
template <class Value, size_t N>
std::optional<Match<Value>> match_at(const Text& text, size_t first, const Phrase<Value> (&phrases)[N]) {
  std::optional<Match<Value>> best;
  for (const Phrase<Value>& phrase : phrases) {
    const Words wanted = split_words(phrase.text);
    if (first + wanted.size() > text.words.size() || (best && best->count >= wanted.size())) continue;
    bool same = true;
    for (size_t i = 0; i < wanted.size() && same; ++i)
      same = !text.used[first + i] && text.words[first + i] == wanted[i];
    if (same) best = {phrase.value, first, wanted.size()};
  }
  return best;
}

// All phrases in order, without overlaps; takes their words.
template <class Value, size_t N>
std::vector<Match<Value>> match_all(Text& text, const Phrase<Value> (&phrases)[N]) {
  std::vector<Match<Value>> matches;
  for (size_t first = 0; first < text.words.size(); ++first) {
    const auto match = match_at(text, first, phrases);
    if (!match) continue;
    for (size_t i = 0; i < match->count; ++i) text.used[first + i] = true;
    matches.push_back(*match);
    first += match->count - 1;
  }
  return matches;
}

bool is_one_of(const std::string& word, const auto& list) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

// "over a still background" and "a static camera" do not speak of the subject.
bool speaks_of_the_scene(const Text& text, const Match<Motion>& match) {
  constexpr std::string_view scene_words[] = {"background", "backdrop", "camera", "shot", "scene"};
  const size_t next = match.first + match.count;
  return match.value == Motion::still && next < text.words.size() && is_one_of(text.words[next], scene_words);
}

std::optional<Motion> find_motion(Text& text) {
  std::vector<Match<Motion>> matches = match_all(text, kMotionPhrases);
  std::erase_if(matches, [&](const Match<Motion>& match) { return speaks_of_the_scene(text, match); });
  for (size_t i = 1; i < text.words.size(); ++i) {
    if (!is_one_of(text.words[i - 1], kMotionVerbs)) continue;
    if (const auto match = match_at(text, i, kBareDirections)) {
      text.used[i] = true;
      matches.push_back(*match);
    }
  }
  if (matches.empty()) return std::nullopt;
  // "up and to the right" is one diagonal motion, however it is said.
  bool horizontal = false, vertical = false;
  for (const auto& match : matches) {
    if (match.value == Motion::diagonal || match.value == Motion::circular || match.value == Motion::still)
      return match.value;
    (match.value == Motion::upwards || match.value == Motion::downwards ? vertical : horizontal) = true;
  }
  return horizontal && vertical ? Motion::diagonal : matches.front().value;
}

// The colour named next before the shape ("a red ball"), else next after it ("a ball in red").
std::optional<Colour> find_colour(Text& text, const std::optional<Match<Shape>>& shape) {
  const auto matches = match_all(text, kColourPhrases);
  if (matches.empty()) return std::nullopt;
  if (!shape) return matches.front().value;
  // A colour before the shape but far from it ("over green grass, a ball in red") loses against a nearer one behind.
  const auto distance = [&](const Match<Colour>& match) {
    return match.first < shape->first ? 2 * (shape->first - match.first) - 1 : 2 * (match.first - shape->first);
  };
  return std::min_element(matches.begin(), matches.end(),
                          [&](const auto& a, const auto& b) { return distance(a) < distance(b); })
      ->value;
}

template <class Value>
std::optional<Value> first_value(const std::vector<Match<Value>>& matches) {
  return matches.empty() ? std::nullopt : std::optional<Value>(matches.front().value);
}

// Which of the wordings of an attribute a caption style uses.
struct Wording {
  std::array<std::string_view, kShapeNames.size()> shapes;
  std::array<std::string_view, kSizeNames.size()> sizes;
  std::array<std::string_view, kMotionNames.size()> moves;   // finite: "moves up"
  std::array<std::string_view, kMotionNames.size()> moving;  // participle: "moving up"
  std::array<std::string_view, kBackgroundNames.size()> places;
};

constexpr Wording kPlain = {kShapeNames,
                            {"", "small ", "large "},
                            {"moves from left to right", "moves from right to left", "moves up", "moves down",
                             "moves diagonally", "moves in a circle", "stands still"},
                            {"moving from left to right", "moving from right to left", "moving up", "moving down",
                             "moving diagonally", "moving in a circle", "standing still"},
                            {"grass", "sand", "water", "a brick wall", "the night sky", "wood"}};

constexpr Wording kVaried = {
    {"disc", "box", "triangle", "star", "rhombus", "plus sign"},
    {"", "little ", "big "},
    {"slides to the right", "slides to the left", "rises", "falls", "drifts diagonally", "goes around in circles",
     "does not move"},
    {"sliding to the right", "sliding to the left", "rising", "falling", "drifting diagonally",
     "going around in circles", "resting"},
    {"a lawn", "a sandy beach", "the sea", "a wall of bricks", "a starry night", "wooden planks"}};

}  // namespace

std::string caption(const Scene& scene, int style) {
  LONGTAKE_CHECK(style >= 0 && style < kCaptionStyles, "caption style {} is out of range; there are {}", style,
                 kCaptionStyles);
  const Wording& words = style % 2 == 0 ? kPlain : kVaried;
  const std::string_view shape = words.shapes[static_cast<size_t>(scene.shape)];
  const std::string_view colour = name(scene.colour);
  const std::string_view size = words.sizes[static_cast<size_t>(scene.size)];
  const std::string_view moves = words.moves[static_cast<size_t>(scene.motion)];
  const std::string_view moving = words.moving[static_cast<size_t>(scene.motion)];
  const std::string_view place = words.places[static_cast<size_t>(scene.background)];
  const std::string_view article = size.empty() && scene.colour == Colour::orange ? "an" : "a";
  switch (style / 2) {
    case 0:
      return fmt::format("{} {}{} {} {} over {}", article, size, colour, shape, moves, place);
    case 1:
      return fmt::format("over {}, {} {}{} {} {}", place, article, size, colour, shape, moves);
    default:
      return fmt::format("a video of {} {}{} {} {} in front of {}", article, size, colour, shape, moving, place);
  }
}

SceneQuery parse_caption(std::string_view text) {
  Text rest{split_words(text), {}};
  rest.used.resize(rest.words.size(), false);
  SceneQuery query;
  // Motion first: "in a circle" must not be taken for a circle.
  query.motion = find_motion(rest);
  query.background = first_value(match_all(rest, kBackgroundPhrases));
  const auto shapes = match_all(rest, kShapePhrases);
  query.shape = first_value(shapes);
  query.colour = find_colour(rest, shapes.empty() ? std::nullopt : std::optional(shapes.front()));
  query.size = first_value(match_all(rest, kSizePhrases));
  return query;
}

}  // namespace longtake::demo
