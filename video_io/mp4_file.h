// H.264 packets into an mp4: whole with its index in front, or in fragments that players can open while it grows.
//
// Errors: bad_file naming `shown`, the path as the user knows it, for what cannot be written.
#pragma once

#include "video_io/av.h"
#include "video_io/metadata.h"

#include <filesystem>

namespace longtake {

enum class Mp4Layout {
  faststart,  // index in front of the pictures; complete with close() only
  fragments   // playable up to the last cut()
};

class Mp4File {
 public:
  // `track`: codec parameters, average frame rate and time base.
  Mp4File(const std::filesystem::path& file, std::filesystem::path shown, const AVStream& track, const Tags& tags, Mp4Layout layout);
  Mp4File(const std::filesystem::path& file, std::filesystem::path shown, const AVCodecContext& encoder, const Tags& tags,
          Mp4Layout layout);

  // Takes the packet's data; its times are in units of `time_base`.
  void write(AVPacket& packet, AVRational time_base);
  // Ends the fragment: all that was written can be played now.
  void cut();
  void close();

 private:
  void open(const std::filesystem::path& file, AVRational frame_rate, const Tags& tags, Mp4Layout layout);
  int checked(int code) const;

  std::filesystem::path shown_;
  AvOutput output_;
  AVStream* track_ = nullptr;
  bool index_written_ = false;  // of a file in fragments
};

// The packets of an mp4 in a new one with its index in front and these tags, nothing encoded again.
void remux(const std::filesystem::path& source, const std::filesystem::path& target, const std::filesystem::path& shown,
           const Tags& tags);

}  // namespace longtake
