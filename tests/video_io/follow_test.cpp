// The reader of the demo world on clips that this test draws with OpenCV: every shape x colour x motion, clean and as a
// blurred, noisy H.264 video.
#include "video_io/follow.h"

#include "base/error.h"
#include "models/demo/clips.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"
#include "video_io/frames.h"
#include "video_io/reader.h"
#include "video_io/writer.h"

#include <ATen/ops/empty.h>
#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>

#include <numbers>

using namespace longtake;
using namespace longtake::demo;

namespace {

constexpr int kFrames = 25;  // a quarter of a turn for those that move in a circle

// A texture of low saturation around the background's tone, of another make than the training tool's.
cv::Mat texture(Background background, cv::RNG& random) {
  cv::Mat pattern(kClipSize, kClipSize, CV_32F);
  random.fill(pattern, cv::RNG::UNIFORM, -1.0, 1.0);
  const double stretch = background == Background::wood ? 12 : background == Background::water ? 1 : 3;
  cv::GaussianBlur(pattern, pattern, {}, 1.5 * stretch, 1.5 * (background == Background::water ? 8 : 1));
  double low = 0, high = 0;
  cv::minMaxLoc(pattern, &low, &high);
  pattern *= 20 / std::max(-low, high);
  if (background == Background::brick)
    for (int y = 0; y < kClipSize; y += 12) pattern.row(y).setTo(25);
  if (background == Background::night_sky)
    for (int i = 0; i < 40; ++i) pattern.at<float>(random.uniform(0, kClipSize), random.uniform(0, kClipSize)) = 30;
  const Rgb tone = kBackgroundTones[static_cast<size_t>(background)];
  cv::Mat picture(kClipSize, kClipSize, CV_32FC3, cv::Scalar(tone.r, tone.g, tone.b));
  cv::Mat three;
  cv::merge(std::vector<cv::Mat>{pattern, pattern, pattern}, three);
  return picture + three;
}

cv::Point2d position(Motion motion, int frame, cv::RNG& random) {
  cv::RNG local(random.state);  // the same path for every frame of a clip
  const double across = local.uniform(45.0, 83.0), speed = local.uniform(0.85, 1.0), near = 32, far = kClipSize - near;
  const double angle =
      local.uniform(0.0, 2 * std::numbers::pi) + frame * 2 * std::numbers::pi / local.uniform(84.0, 100.0);
  switch (motion) {
    case Motion::left_to_right:
      return {near + speed * frame, across};
    case Motion::right_to_left:
      return {far - speed * frame, across};
    case Motion::upwards:
      return {across, far - speed * frame};
    case Motion::downwards:
      return {across, near + speed * frame};
    case Motion::diagonal:
      return {near + 0.9 * speed * frame, near + 0.9 * speed * frame};
    case Motion::circular:
      return {64 + 29 * std::cos(angle), 64 + 29 * std::sin(angle)};
    case Motion::still:
      break;
  }
  return {across, 64};
}

// uint8 [frames, kClipSize, kClipSize, 3]
at::Tensor draw_clip(const Scene& scene, uint64_t seed, bool degraded, int frames = kFrames) {
  cv::RNG random(seed * 7919 + 1);
  const cv::Mat background = texture(scene.background, random);
  const double radius = radius_of(scene.size) + random.uniform(-1, 1);
  const Rgb rgb = kColours[static_cast<size_t>(scene.colour)];
  cv::RNG path(seed * 104729 + 3), noise(seed + 5);
  at::Tensor clip = at::empty({frames, kClipSize, kClipSize, 3}, at::kByte);
  for (int t = 0; t < frames; ++t) {
    const cv::Point2d centre = position(scene.motion, t, path);
    // Drawn at four times the size and averaged: anti-aliased whatever the outline.
    std::vector<cv::Point> points;
    for (const auto& [x, y] : outline(scene.shape))
      points.emplace_back(cvRound(((centre.x + radius * x + 0.5) * 4 - 0.5) * 16),
                          cvRound(((centre.y + radius * y + 0.5) * 4 - 0.5) * 16));
    cv::Mat large = cv::Mat::zeros(4 * kClipSize, 4 * kClipSize, CV_8U), cover;
    cv::fillPoly(large, std::vector<std::vector<cv::Point>>{points}, 255, cv::LINE_8, 4);
    cv::resize(large, cover, {kClipSize, kClipSize}, 0, 0, cv::INTER_AREA);
    cv::Mat frame = background.clone();
    for (int y = 0; y < kClipSize; ++y)
      for (int x = 0; x < kClipSize; ++x) {
        const float share = cover.at<uint8_t>(y, x) / 255.0f;
        cv::Vec3f& pixel = frame.at<cv::Vec3f>(y, x);
        pixel = pixel * (1 - share) + cv::Vec3f(rgb.r, rgb.g, rgb.b) * share;
      }
    if (degraded) {
      cv::GaussianBlur(frame, frame, {}, 1.0);
      cv::Mat grain(frame.size(), CV_32FC3);
      noise.fill(grain, cv::RNG::NORMAL, 0.0, 3.0);
      frame += grain;
    }
    cv::Mat target(kClipSize, kClipSize, CV_8UC3,
                   clip.data_ptr<uint8_t>() + static_cast<int64_t>(t) * kClipSize * kClipSize * 3);
    frame.convertTo(target, CV_8U);
  }
  return clip;
}

at::Tensor compressed(const at::Tensor& clip, const TemporaryFolder& folder) {
  const auto path = folder / "clip.mp4";
  VideoWriter writer({path, kClipSize, kClipSize, 24, 23, "veryfast"});
  writer.push(clip);
  writer.finish();
  return read_video(path);
}

struct Score {
  int clips = 0, colour = 0, shape = 0, motion = 0, size = 0, all = 0, still = 0;
  double change = 0, drift = 0;  // largest
  std::string wrong;             // captions

  void add(const Scene& scene, const at::Tensor& frames) {
    const ClipMeasurement measured = measure_clip(frames);
    const PromptFollowing right =
        compare_with_prompt(measured, {scene.shape, scene.colour, scene.size, scene.motion, scene.background});
    ++clips;
    colour += *right.colour;
    shape += *right.shape;
    motion += *right.motion;
    size += *right.size;
    all += *right.all;
    still += measured.background_still;
    change = std::max(change, measured.background_change);
    drift = std::max(drift, measured.background_drift);
    if (!*right.all) wrong += fmt::format("\n  {}: {}", caption(scene), follow_report(measured, {}).dump());
  }
  std::string text() const {
    return fmt::format(
        "{} clips: colour {}, shape {}, motion {}, all three {}, size {}, background still {}; largest "
        "background change {:.2f}, drift {:.2f}{}",
        clips, colour, shape, motion, all, size, still, change, drift, wrong);
  }
};

// Every shape x colour x motion, with sizes and backgrounds as they fall.
std::vector<Scene> every_combination() {
  std::vector<Scene> scenes;
  cv::RNG random(2024);
  for (const Scene& scene : all_scenes())
    if (scene.size == Size::normal && scene.background == Background::grass) {
      scenes.push_back(scene);
      scenes.back().size = static_cast<Size>(random.uniform(0, static_cast<int>(kSizeNames.size())));
      scenes.back().background = static_cast<Background>(random.uniform(0, static_cast<int>(kBackgroundNames.size())));
    }
  return scenes;
}

enum class Make { clean, compressed };

// Every `step`-th combination.
Score score_combinations(Make make, size_t step) {
  const TemporaryFolder folder;
  Score score;
  const auto scenes = every_combination();
  REQUIRE(scenes.size() == 6 * 8 * 7);
  for (size_t i = 0; i < scenes.size(); i += step) {
    const at::Tensor clip = draw_clip(scenes[i], i, make == Make::compressed);
    score.add(scenes[i], make == Make::clean ? clip : compressed(clip, folder));
  }
  WARN(score.text());
  return score;
}

bool whole(const Clip& clip, int frame) {
  const auto [x, y] = clip.position(frame);
  const double reach = clip.radius() * extent(clip.scene().shape);
  return std::min(x, y) >= reach && std::max(x, y) <= kClipSize - reach;
}

// Every `step`-th of the held-out scenes as the training tool draws them, 97 frames, half of them in the midst of their
// motion, where subjects leave the frame and come back: a quarter of the frames must show the whole subject.
Score score_training_clips(int step) {
  Score score;
  int index = 0;
  for (const Scene& scene : all_scenes()) {
    if (!held_out(scene) || ++index % step) continue;
    const Start start = index / step % 2 ? Start::beginning : Start::anywhere;
    uint64_t seed = static_cast<uint64_t>(index);
    const auto judgeable = [&](const Clip& clip) {
      int frames = 0;
      for (int t = 0; t < 97; ++t) frames += whole(clip, t);
      return frames >= 24;
    };
    while (!judgeable(Clip(scene, start, seed))) ++seed;
    score.add(scene, to_frames(Clip(scene, start, seed).frames(0, 97)));
  }
  WARN(score.text());
  return score;
}

}  // namespace

TEST_CASE("clean clips are read back") {
  const Score score = score_combinations(Make::clean, 11);
  CHECK(score.all >= 0.97 * score.clips);
  CHECK(score.still == score.clips);
}

TEST_CASE("blurred, noisy, compressed clips are read back") {
  const Score score = score_combinations(Make::compressed, 11);
  CHECK(score.all >= 0.95 * score.clips);
  CHECK(score.still >= 0.95 * score.clips);
}

TEST_CASE("the training tool's clips are read back") {
  const Score score = score_training_clips(41);
  CHECK(score.clips > 10);
  CHECK(score.all >= 0.97 * score.clips);
  CHECK(score.still == score.clips);
}

// The whole of the above, too long for every day: test_video_io "[sweep]".
TEST_CASE("every combination is read back", "[.][sweep]") {
  for (const Make make : {Make::clean, Make::compressed}) {
    const Score score = score_combinations(make, 1);
    CHECK(score.all >= 0.97 * score.clips);
    CHECK(score.still == score.clips);
  }
  const Score score = score_training_clips(1);
  CHECK(score.all >= 0.97 * score.clips);
  CHECK(score.still == score.clips);
}

TEST_CASE("size does not matter, nor does the shape of the frame") {
  const Scene scene{Shape::star, Colour::purple, Size::large, Motion::diagonal, Background::wood};
  const at::Tensor clip = draw_clip(scene, 3, false);
  at::Tensor wide = at::empty({kFrames, 256, 384, 3}, at::kByte);
  for (int t = 0; t < kFrames; ++t) {
    cv::Mat from(kClipSize, kClipSize, CV_8UC3, clip[t].data_ptr<uint8_t>()),
        to(256, 384, CV_8UC3, wide[t].data_ptr<uint8_t>());
    cv::Mat doubled;
    cv::resize(from, doubled, {256, 256}, 0, 0, cv::INTER_CUBIC);
    cv::copyMakeBorder(doubled, to, 0, 0, 0, 128, cv::BORDER_REFLECT_101);
    // The mirror shows the subject again when it is near; cover it with background from the left edge.
    doubled.colRange(0, 16).copyTo(to.colRange(256, 272));
    for (int x = 256; x < 384; x += 16) doubled.colRange(0, 16).copyTo(to.colRange(x, x + 16));
  }
  const ClipMeasurement measured = measure_clip(wide);
  const PromptFollowing right = compare_with_prompt(measured, parse_caption(caption(scene)));
  CHECK(right.all == true);
  CHECK(right.size == true);
}

TEST_CASE("what does not follow the prompt is told so") {
  const Scene drawn{Shape::square, Colour::blue, Size::normal, Motion::left_to_right, Background::sand};
  const ClipMeasurement measured = measure_clip(draw_clip(drawn, 8, false));
  CHECK(measured.visible_share == 1);
  CHECK(compare_with_prompt(measured, parse_caption(caption(drawn))).all == true);
  CHECK(compare_with_prompt(measured, parse_caption("a blue circle moves from left to right")).shape == false);
  CHECK(compare_with_prompt(measured, parse_caption("a cyan square moves from left to right")).colour == false);
  CHECK(compare_with_prompt(measured, parse_caption("a blue square moves from right to left")).motion == false);
  CHECK(compare_with_prompt(measured, parse_caption("a blue square moves from right to left")).all == false);
  const PromptFollowing partly = compare_with_prompt(measured, parse_caption("something blue"));
  CHECK(partly.colour == true);
  CHECK(!partly.shape.has_value());
  CHECK(partly.all == true);
  CHECK(!compare_with_prompt(measured, parse_caption("a cat")).all.has_value());

  const nlohmann::json report = follow_report(measured, parse_caption("a red square over sand"));
  CHECK(report["colour"]["measured"] == "blue");
  CHECK(report["colour"]["expected"] == "red");
  CHECK(report["colour"]["right"] == false);
  CHECK(report["shape"]["right"] == true);
  CHECK(report["shape"]["overlap"]["square"] > 0.9);
  CHECK(report["motion"]["measured"] == "left to right");
  CHECK(report["motion"]["right"].is_null());
  CHECK(report["background"]["still"] == true);
  CHECK(report["follows"] == false);
}

TEST_CASE("an empty scene has no subject, and nothing about it is right") {
  cv::RNG random(4);
  const cv::Mat background = texture(Background::brick, random);
  at::Tensor clip = at::empty({12, kClipSize, kClipSize, 3}, at::kByte);
  for (int t = 0; t < 12; ++t) {
    cv::Mat target(kClipSize, kClipSize, CV_8UC3, clip[t].data_ptr<uint8_t>());
    background.convertTo(target, CV_8U);
  }
  const ClipMeasurement measured = measure_clip(clip);
  CHECK(measured.visible_share == 0);
  CHECK(!measured.colour.has_value());
  CHECK(!measured.shape.has_value());
  CHECK(!measured.trajectory.motion.has_value());
  CHECK(measured.background_still);
  CHECK(compare_with_prompt(measured, parse_caption("a red square stands still")).all == false);
  CHECK(follow_report(measured, parse_caption("a red square"))["colour"]["measured"].is_null());
  // One colour everywhere, a single frame, and no frame.
  CHECK(measure_clip(at::zeros({1, 16, 16, 3}, at::kByte)).visible_share == 0);
  CHECK_THROWS_AS(measure_clip(at::zeros({0, 64, 64, 3}, at::kByte)), Error);
  CHECK_THROWS_AS(measure_clip(at::zeros({1, 8, 64, 3}, at::kByte)), Error);
}

TEST_CASE("a background that moves, flickers or drifts is not still") {
  const Scene scene{Shape::circle, Colour::red, Size::normal, Motion::still, Background::grass};
  const at::Tensor clip = draw_clip(scene, 5, false);
  CHECK(measure_clip(clip).background_still);
  SECTION("flicker") {
    at::Tensor other = clip.clone();
    for (int t = 0; t < kFrames; t += 2) other[t].add_(5);
    CHECK(!measure_clip(other).background_still);
  }
  SECTION("drift") {
    at::Tensor other = clip.clone();
    for (int t = 0; t < kFrames; ++t) other[t].add_(t / 2);
    const ClipMeasurement measured = measure_clip(other);
    CHECK(measured.background_change < 1);
    CHECK(!measured.background_still);
    CHECK(measured.colour == Colour::red);
  }
  SECTION("movement") {
    at::Tensor other = clip.clone();
    for (int t = 0; t < kFrames; ++t) {
      cv::RNG random(99);
      const cv::Mat wide = texture(Background::grass, random);
      cv::Mat target(kClipSize, kClipSize, CV_8UC3, other[t].data_ptr<uint8_t>());
      for (int y = 0; y < kClipSize; ++y)
        for (int x = 0; x < 40; ++x) {
          const cv::Vec3f pixel = wide.at<cv::Vec3f>((y + 3 * t) % kClipSize, x);
          target.at<cv::Vec3b>(y, x) = {cv::saturate_cast<uint8_t>(pixel[0]), cv::saturate_cast<uint8_t>(pixel[1]),
                                        cv::saturate_cast<uint8_t>(pixel[2])};
        }
    }
    CHECK(!measure_clip(other).background_still);
  }
}
