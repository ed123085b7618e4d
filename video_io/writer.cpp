#include "video_io/writer.h"

#include "base/error.h"
#include "base/pending_file.h"
#include "runtime/fragments.h"
#include "video_io/encoder.h"
#include "video_io/frames.h"
#include "video_io/mp4_file.h"

namespace longtake {

struct VideoWriter::Stream {
  VideoWriterOptions options;
  std::unique_ptr<PendingFile> pending;  // none while the video grows elsewhere; outlives `file`, which holds it open
  H264Encoder encoder;
  Mp4File file;
  int64_t uncut = 0;  // frames behind the last fragment

  explicit Stream(const VideoWriterOptions& o)
      : options(o), pending(o.growing.empty() ? std::make_unique<PendingFile>(o.path) : nullptr),
        encoder(o, [this](AVPacket& packet) { file.write(packet, encoder.context().time_base); }),
        file(pending ? pending->temporary() : o.growing, o.path, encoder.context(), o.tags,
             pending ? Mp4Layout::faststart : Mp4Layout::fragments) {}

  void end_batch() {
    if (options.growing.empty() || uncut < shortest_fragment(options.fps)) return;
    encoder.drain();
    file.cut();
    uncut = 0;
  }

  void close(const std::optional<Tags>& tags) {
    encoder.drain();
    file.close();
    if (options.growing.empty()) return pending->commit();
    PendingFile finished(options.path);
    remux(options.growing, finished.temporary(), options.path, tags.value_or(options.tags));
    finished.commit();
  }
};

void check_video_options(const VideoWriterOptions& options) {
  check_values(options);
  VideoWriterOptions whole = options;
  whole.growing.clear();
  VideoWriter probe(whole);
}

VideoWriter::VideoWriter(const VideoWriterOptions& options) {
  check_values(options);
  stream_ = std::make_unique<Stream>(options);
}

VideoWriter::~VideoWriter() = default;

void VideoWriter::push(std::span<const uint8_t> frame) {
  LONGTAKE_CHECK(stream_, "the video is finished or has failed");
  const VideoWriterOptions& o = stream_->options;
  const size_t expected = static_cast<size_t>(o.width) * o.height * 3;
  LONGTAKE_CHECK(frame.size() == expected, "expected a frame of {}x{} RGB ({} bytes), found {} bytes", o.width,
                 o.height, expected, frame.size());
  try {
    stream_->encoder.push(frame.data(), frames_);
  } catch (...) {
    stream_.reset();
    throw;
  }
  ++frames_;
  ++stream_->uncut;
}

void VideoWriter::push(const at::Tensor& frames) {
  LONGTAKE_CHECK(stream_, "the video is finished or has failed");
  check_frames(frames, "frames");
  const int width = stream_->options.width, height = stream_->options.height;
  LONGTAKE_CHECK(frames.size(1) == height && frames.size(2) == width, "expected frames of {}x{}, found {}x{}", width,
                 height, frames.size(2), frames.size(1));
  const size_t bytes = static_cast<size_t>(width) * height * 3;
  for (int64_t t = 0; t < frames.size(0); ++t) {
    const at::Tensor frame = frames[t].cpu().contiguous();
    push({frame.const_data_ptr<uint8_t>(), bytes});
  }
  try {
    stream_->end_batch();
  } catch (...) {
    stream_.reset();
    throw;
  }
}

int64_t VideoWriter::playable() const { return stream_ && !stream_->options.growing.empty() ? frames_ - stream_->uncut : 0; }

void VideoWriter::finish(const std::optional<Tags>& tags) {
  LONGTAKE_CHECK(stream_, "the video is finished or has failed");
  const auto stream = std::move(stream_);  // gone whatever happens
  LONGTAKE_CHECK(frames_ > 0, "{} has no frames", stream->options.path.string());
  stream->close(tags);
}

}  // namespace longtake
