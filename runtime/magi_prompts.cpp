#include "runtime/magi_prompts.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/magi_recipe.h"

namespace longtake {
namespace {

constexpr int kStride = 4;  // frames of a latent frame

// Frames [begin, end) of the output that a chunk shows.
struct Shown {
  int begin, end;
};

Shown shown_by(const magi::VideoSize& size, int chunk, int missing) {
  const int start = static_cast<int>(size.emitted(size.first).begin);
  const KeyRange latents = size.emitted(chunk);
  // Only the video's first latent frame may be of fewer frames.
  const auto frames = [&](int64_t latent) { return std::max(0, static_cast<int>(latent - start) * kStride - (start == 0 ? missing : 0)); };
  return {frames(latents.begin), frames(latents.end)};
}

}  // namespace

std::vector<int> prompts_of_chunks(const std::vector<TimedPrompt>& prompts, const magi::VideoSize& size, int missing, int fps) {
  std::vector<int> out;
  for (int chunk = size.first; chunk < size.chunks; ++chunk) {
    const Shown shown = shown_by(size, chunk, missing);
    const double middle = (shown.begin + shown.end) / 2.0;
    const auto behind = std::find_if(prompts.begin() + 1, prompts.end(), [&](const TimedPrompt& p) { return p.begin * fps > middle; });
    out.push_back(static_cast<int>(behind - prompts.begin()) - 1);
  }
  return out;
}

void choose_prompts(const Recipe& recipe, const GenerateOptions& o, MagiRequest& request, std::string* note) {
  if (o.prompts.empty()) return;
  const std::vector<TimedPrompt> prompts = parse_timeline(o.prompts, "prompts");
  const magi::RunConfig& run = request.config.run;
  const magi::VideoSize size = magi_video_size(recipe, o, request.config);
  // A length in seconds becomes whole chunks.
  check_timeline_end(prompts, static_cast<double>(shown_by(size, size.chunks - 1, run.missing_frames).end) / o.fps,
                     run.chunk_frames * kStride / 2.0 / o.fps);
  request.prompts.clear();
  for (const TimedPrompt& prompt : prompts) request.prompts.push_back(prompt.text);
  request.prompt_of = prompts_of_chunks(prompts, size, run.missing_frames, o.fps);
  for (size_t i = 0; note != nullptr && i < prompts.size(); ++i)
    if (std::find(request.prompt_of.begin(), request.prompt_of.end(), static_cast<int>(i)) == request.prompt_of.end())
      *note += fmt::format("{}prompt {} has no effect: no chunk of {} frames has its middle between {} and {} s; use a longer range",
                           note->empty() ? "" : "; ", i + 1, run.chunk_frames * kStride, prompts[i].begin, prompts[i].end);
}

}  // namespace longtake
