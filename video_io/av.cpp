#include "video_io/av.h"

#include "base/error.h"

namespace longtake {

std::string av_text(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof(text));
  return text;
}

void quiet_libav() { av_log_set_level(AV_LOG_QUIET); }

std::string file_url(const std::filesystem::path& path) { return "file:" + path.string(); }

void fail_av_memory() {
  fail(ExitCode::no_memory, "libav could not allocate memory for video; close other programs or use smaller frames");
}

}  // namespace longtake
