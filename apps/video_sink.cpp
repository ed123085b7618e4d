#include "apps/video_sink.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "base/error.h"
#include "base/pending_file.h"
#include "models/weights/safetensors.h"
#ifdef LONGTAKE_VIDEO_IO
#include "video_io/frames.h"
#include "video_io/metadata.h"
#include "video_io/writer.h"
#endif

namespace longtake {

nlohmann::ordered_json video_record(const GenerateOptions& options, const nlohmann::ordered_json& settings) {
  nlohmann::ordered_json record;
  record["program"] = "longtake";
  record["version"] = kVersion;
  record["prompt"] = prompt_text(options);
  record["negative"] = options.negative;
  record["seed"] = options.seed.value_or(0);
  if (!options.video.empty())
    record["extends"] = {{"file", std::filesystem::path(options.video).filename().string()}, {"context", options.context}, {"only_new", options.only_new}};
  record["settings"] = settings;
  return record;
}

class VideoSink::Target {
 public:
  virtual ~Target() = default;
  virtual void grow_in(const std::filesystem::path&) {}
  virtual void latents(int, const at::Tensor&) {}
  virtual void frames(const at::Tensor& frames) = 0;  // uint8 [n, H, W, 3]
  virtual int64_t playable() const { return 0; }
  virtual void finish(const nlohmann::ordered_json& record) = 0;
};

class VideoSink::TensorFile final : public Target {
 public:
  explicit TensorFile(std::filesystem::path path) : path_(std::move(path)) { check_writable(path_); }
  void latents(int window, const at::Tensor& latents) override {
    tensors_[fmt::format("latents{}", window)] = latents.to(at::kFloat).cpu().clone();
  }
  void frames(const at::Tensor& frames) override {
    frames_.push_back(frames);
  }
  void finish(const nlohmann::ordered_json& record) override {
    tensors_["frames"] = at::cat(frames_);
    save_safetensors(path_, tensors_, {{"longtake", record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)}});
  }

 private:
  std::filesystem::path path_;
  std::map<std::string, at::Tensor> tensors_;
  std::vector<at::Tensor> frames_;  // uint8 [n, H, W, 3]
};

#ifdef LONGTAKE_VIDEO_IO
class VideoSink::Mp4 final : public Target {
 public:
  Mp4(const GenerateOptions& options, const nlohmann::ordered_json& record)
      : writer_options_{.path = options.out,
                        .width = options.size.width,
                        .height = options.size.height,
                        .fps = options.fps,
                        .crf = options.crf,
                        .preset = options.preset,
                        .tags = record_tags(nlohmann::json(record))} {
    check_video_options(writer_options_);
  }
  void grow_in(const std::filesystem::path& file) override { writer_options_.growing = file; }
  void frames(const at::Tensor& frames) override {
    // Opened with the first frames, so that a run that fails before leaves nothing behind even if it is killed.
    if (!writer_) writer_ = std::make_unique<VideoWriter>(writer_options_);
    writer_->push(frames);
  }
  int64_t playable() const override { return writer_ ? writer_->playable() : 0; }
  void finish(const nlohmann::ordered_json& record) override { writer_->finish(record_tags(nlohmann::json(record))); }

 private:
  VideoWriterOptions writer_options_;
  std::unique_ptr<VideoWriter> writer_;
};
#endif

VideoSink::VideoSink(const GenerateOptions& options, const nlohmann::ordered_json& settings)
    : record_(std::make_unique<nlohmann::ordered_json>(video_record(options, settings))) {
  const std::filesystem::path path(options.out);
  if (path.extension() == ".safetensors") {
    target_ = std::make_unique<TensorFile>(path);
    return;
  }
#ifdef LONGTAKE_VIDEO_IO
  if (path.extension() != ".mp4") fail_usage("--out must end in .mp4 or .safetensors (latents and frames), found '{}'", options.out);
  target_ = std::make_unique<Mp4>(options, *record_);
#else
  fail_usage("this build writes no videos (LONGTAKE_VIDEO_IO is off): --out must end in .safetensors, found '{}'", options.out);
#endif
}

VideoSink::~VideoSink() = default;

void VideoSink::grow_in(const std::filesystem::path& file) { target_->grow_in(file); }

void VideoSink::latents(int window, const at::Tensor& latents) { target_->latents(window, latents); }

void VideoSink::given(const at::Tensor& frames) {
  target_->frames(frames);
  given_ += frames.size(0);
}

void VideoSink::frames(const at::Tensor& frames) {
#ifdef LONGTAKE_VIDEO_IO
  target_->frames(to_frames(frames).cpu());
#else
  target_->frames(((frames.to(at::kFloat) / 2 + 0.5).clamp(0, 1) * 255).to(at::kByte).cpu().permute({1, 2, 3, 0}).contiguous());
#endif
  frames_ += frames.size(1);
}

int64_t VideoSink::playable() const { return target_->playable(); }

void VideoSink::finish(std::optional<int64_t> planned) {
  LONGTAKE_CHECK(frames_ > 0, "there are no frames");
  if (given_ > 0) (*record_)["extends"]["frames"] = given_;
  if (planned && frames_ < *planned) (*record_)["part"] = {{"frames", given_ + frames_}, {"of", given_ + *planned}};
  target_->finish(*record_);
}

}  // namespace longtake
