#include "apps/run_inputs.h"

#include <fmt/format.h>

#include "apps/video_sink.h"
#include "base/error.h"
#include "base/utf8.h"
#include "runtime/families.h"
#include "runtime/magi_recipe.h"
#ifdef LONGTAKE_VIDEO_IO
#include "video_io/fitted_video.h"
#include "video_io/frames.h"
#include "video_io/still.h"
#endif

namespace longtake {

#ifdef LONGTAKE_VIDEO_IO
namespace {

// The longest context that the video and what was asked for allow: 4k + rest frames.
int context_of(const GenerateOptions& o, const FittedVideo& video, const ContextRule& rule) {
  const int64_t wanted = o.context > 0 ? o.context : rule.usual;
  const int64_t longest = (std::min(wanted, video.frames()) - rule.rest) / temporal_stride * temporal_stride + rule.rest;
  if (longest < 1)
    fail_usage("the video {} has {} frames at {} fps, and this model goes on from {} or more", printable(o.video), video.frames(), o.fps,
               temporal_stride);
  if (o.context > 0 && o.context > video.frames())
    fail_usage("the video {} has {} frames at {} fps, and a context of {} needs more; use --context {} or less", printable(o.video),
               video.frames(), o.fps, o.context, longest);
  return o.context > 0 ? o.context : static_cast<int>(longest);
}

// [3, 1, H, W]; what was done to it is added to the note.
at::Tensor fitted_picture(const std::string& path, const FrameSize& size, const char* what, std::string& note) {
  const at::Tensor picture = read_still(path);
  const FrameFit fit(picture.size(0), picture.size(1), size.height, size.width);
  if (const std::string done = fit.note(); !done.empty()) note += fmt::format("{}{} {}: {}", note.empty() ? "" : "; ", what, printable(path), done);
  return from_frames(fit(picture.unsqueeze(0)));
}

}  // namespace

RunInputs::RunInputs(GenerateOptions& o, const ContextRule& rule) {
  if (!o.image.empty()) given_ = fitted_picture(o.image, o.size, "the image", note_);
  if (!o.end_image.empty()) end_ = fitted_picture(o.end_image, o.size, "the end image", note_);
  if (!o.video.empty()) {
    video_ = std::make_unique<FittedVideo>(o.video, o.size.height, o.size.width, o.fps, o.context > 0 ? o.context : rule.usual);
    o.context = context_of(o, *video_, rule);
    shown_ = !o.only_new;
    given_ = from_frames(video_->last().narrow(0, video_->last().size(0) - o.context, o.context));
    note_ = fmt::format("the video {}: {}; the model goes on from the last {}{}{}", printable(o.video), video_->note(), o.context,
                        note_.empty() ? "" : "; ", note_);
  }
}

int64_t RunInputs::shown_frames() const { return shown_ ? video_->frames() : 0; }

void RunInputs::show(VideoSink& sink) const {
  if (shown_) video_->read([&](const at::Tensor& frames) { sink.given(frames); });
}
#else
class FittedVideo {};

RunInputs::RunInputs(GenerateOptions& o, const ContextRule&) {
  if (!o.image.empty() || !o.end_image.empty())
    fail_usage("this build reads no pictures (LONGTAKE_VIDEO_IO is off): leave out --image and --end-image");
  if (!o.video.empty()) fail_usage("this build reads no videos (LONGTAKE_VIDEO_IO is off): leave out conditioning.video");
}

int64_t RunInputs::shown_frames() const { return 0; }

void RunInputs::show(VideoSink&) const {}
#endif

ContextRule context_rule(const Recipe& recipe, const GenerateOptions& options) {
  if (!is_magi(recipe)) return {options.overlap, 1};
  constexpr int64_t latents = 8;  // the reference's number
  const int64_t missing = magi_missing_frames(recipe);
  return {latents * temporal_stride - missing, missing == 0 ? 0 : temporal_stride - missing};
}

RunInputs::~RunInputs() = default;
RunInputs::RunInputs(RunInputs&&) noexcept = default;

void check_extends(const GenerateOptions& o, bool extends) {
  if (extends && o.video.empty())
    fail_usage("there is no video to go on from; name one: longtake extend clip.mp4 -p \"...\" --add 4 -o longer.mp4");
}

void refuse_video(const GenerateOptions& o, const std::string& verb) {
  if (!o.video.empty()) fail_usage("longtake {} makes whole videos and goes on from none; leave out conditioning.video", verb);
  if (!o.prompts.empty()) fail_usage("longtake {} has no prompts over time; leave out the key prompts and give it prompts of its own", verb);
}

}  // namespace longtake
