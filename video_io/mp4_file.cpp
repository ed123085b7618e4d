#include "video_io/mp4_file.h"

#include "base/error.h"

extern "C" {
#include <libavutil/dict.h>
}

namespace longtake {
namespace {

AvOutput allocate(const std::filesystem::path& file, const std::filesystem::path& shown) {
  quiet_libav();
  AVFormatContext* context = nullptr;
  check_write(avformat_alloc_output_context2(&context, nullptr, "mp4", file_url(file).c_str()), shown);
  return AvOutput(context);
}

}  // namespace

Mp4File::Mp4File(const std::filesystem::path& file, std::filesystem::path shown, const AVStream& track, const Tags& tags,
                 Mp4Layout layout)
    : shown_(std::move(shown)), output_(allocate(file, shown_)), track_(av_allocated(avformat_new_stream(output_.get(), nullptr))) {
  checked(avcodec_parameters_copy(track_->codecpar, track.codecpar));
  track_->codecpar->codec_tag = 0;
  track_->time_base = track.time_base;
  open(file, track.avg_frame_rate, tags, layout);
}

Mp4File::Mp4File(const std::filesystem::path& file, std::filesystem::path shown, const AVCodecContext& encoder, const Tags& tags,
                 Mp4Layout layout)
    : shown_(std::move(shown)), output_(allocate(file, shown_)), track_(av_allocated(avformat_new_stream(output_.get(), nullptr))) {
  checked(avcodec_parameters_from_context(track_->codecpar, &encoder));
  track_->time_base = encoder.time_base;
  open(file, encoder.framerate, tags, layout);
}

int Mp4File::checked(int code) const { return check_write(code, shown_); }

void Mp4File::open(const std::filesystem::path& file, AVRational frame_rate, const Tags& tags, Mp4Layout layout) {
  track_->avg_frame_rate = track_->r_frame_rate = frame_rate;
  track_->sample_aspect_ratio = {1, 1};
  for (const auto& [key, value] : tags) checked(av_dict_set(&output_->metadata, key.c_str(), value.c_str(), 0));
  checked(avio_open(&output_->pb, file_url(file).c_str(), AVIO_FLAG_WRITE));
  AVDictionary* options = nullptr;
  // The index waits for the first fragment, because only then the delay of the pictures' order is known.
  av_dict_set(&options, "movflags",
              layout == Mp4Layout::faststart ? "+faststart" : "+frag_custom+delay_moov+default_base_moof", 0);
  const int code = avformat_write_header(output_.get(), &options);
  av_dict_free(&options);
  checked(code);
}

void Mp4File::write(AVPacket& packet, AVRational time_base) {
  packet.stream_index = track_->index;
  packet.pos = -1;
  av_packet_rescale_ts(&packet, time_base, track_->time_base);
  checked(av_interleaved_write_frame(output_.get(), &packet));
  checked(output_->pb->error);  // the muxer does not report every failed write
}

void Mp4File::cut() {
  checked(av_interleaved_write_frame(output_.get(), nullptr));
  // The muxer takes the first of these for the index alone.
  if (!index_written_) checked(av_write_frame(output_.get(), nullptr));
  index_written_ = true;
  checked(av_write_frame(output_.get(), nullptr));
  avio_flush(output_->pb);
  checked(output_->pb->error);
}

void Mp4File::close() {
  checked(av_write_trailer(output_.get()));
  checked(output_->pb->error);
  checked(avio_closep(&output_->pb));
}

void remux(const std::filesystem::path& source, const std::filesystem::path& target, const std::filesystem::path& shown,
           const Tags& tags) {
  quiet_libav();
  AVFormatContext* context = nullptr;
  check_write(avformat_open_input(&context, file_url(source).c_str(), nullptr, nullptr), shown);
  const AvInput input(context);
  check_write(avformat_find_stream_info(context, nullptr), shown);
  LONGTAKE_CHECK(context->nb_streams == 1, "{} has {} tracks", source.string(), context->nb_streams);
  const AVStream& track = *context->streams[0];
  Mp4File file(target, shown, track, tags, Mp4Layout::faststart);
  const AvPtr<AVPacket> packet(av_allocated(av_packet_alloc()));
  for (;;) {
    const int code = av_read_frame(context, packet.get());
    if (code == AVERROR_EOF) break;
    check_write(code, shown);
    file.write(*packet, track.time_base);
  }
  file.close();
}

}  // namespace longtake
