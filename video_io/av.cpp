#include "video_io/av.h"

#include <cerrno>

#include "base/error.h"
#include "base/pending_file.h"

namespace longtake {

std::string av_text(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof(text));
  return text;
}

void quiet_libav() { av_log_set_level(AV_LOG_QUIET); }

std::string file_url(const std::filesystem::path& path) { return "file:" + path.string(); }

// Libav's errors while writing are negated errno values or its own codes.
int check_write(int code, const std::filesystem::path& path) {
  if (code >= 0) return code;
  if (code == AVERROR(ENOMEM)) fail_av_memory();
  const int error_number = AVUNERROR(code);
  if (error_number > 0 && error_number < 4096) throw Error(ExitCode::bad_file, write_error(path, error_number));
  fail_file("cannot write {}: {}; try another --preset or --crf, or another output path", path.string(), av_text(code));
}

void fail_av_memory() {
  fail(ExitCode::no_memory, "libav could not allocate memory for video; close other programs or use smaller frames");
}

}  // namespace longtake
