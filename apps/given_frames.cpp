#include "apps/given_frames.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/utf8.h"
#ifdef LONGTAKE_VIDEO_IO
#include "video_io/fit.h"
#include "video_io/frames.h"
#include "video_io/still.h"
#endif

namespace longtake {

at::Tensor load_given(const GenerateOptions& o, std::string& note) {
  note.clear();
  if (o.image.empty()) return {};
#ifdef LONGTAKE_VIDEO_IO
  const at::Tensor picture = read_still(o.image);
  const FrameFit fit(picture.size(0), picture.size(1), o.size.height, o.size.width);
  if (const std::string done = fit.note(); !done.empty()) note = fmt::format("the image {}: {}", printable(o.image), done);
  return from_frames(fit(picture.unsqueeze(0)));
#else
  fail_usage("this build reads no pictures (LONGTAKE_VIDEO_IO is off): leave out --image");
#endif
}

}  // namespace longtake
