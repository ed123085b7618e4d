#include "video_io/seams.h"

#include "base/error.h"
#include "runtime/schedule.h"
#include "video_io/frames.h"

#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include <algorithm>
#include <cmath>

namespace longtake {
namespace {

struct Step {
  double luma = 0, chroma = 0;
};

// Mean absolute change of `count` RGB pixels. Luma and chroma are linear, so the change of colour is enough.
Step step_between(const uint8_t* before, const uint8_t* after, int64_t count) {
  double luma = 0, chroma = 0;
  for (int64_t i = 0; i < count; ++i, before += 3, after += 3) {
    const float r = static_cast<float>(after[0] - before[0]), g = static_cast<float>(after[1] - before[1]),
                b = static_cast<float>(after[2] - before[2]);
    const float y = 0.2126f * r + 0.7152f * g + 0.0722f * b;
    luma += std::abs(y);
    chroma += (std::abs(b - y) / 1.8556f + std::abs(r - y) / 1.5748f) / 2;
  }
  return {luma / static_cast<double>(count), chroma / static_cast<double>(count)};
}

std::vector<Step> steps_of(const at::Tensor& frames) {
  const int64_t pixels = frames.size(1) * frames.size(2);
  const uint8_t* data = frames.data_ptr<uint8_t>();
  std::vector<Step> steps(static_cast<size_t>(frames.size(0)));
  cv::parallel_for_(cv::Range(1, std::max(1, static_cast<int>(steps.size()))), [&](const cv::Range& range) {
    for (int t = range.start; t < range.end; ++t)
      steps[t] = step_between(data + (t - 1) * pixels * 3, data + t * pixels * 3, pixels);
  });
  return steps;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

bool contains(const std::vector<int64_t>& frames, int64_t frame) {
  return std::find(frames.begin(), frames.end(), frame) != frames.end();
}

}  // namespace

Borders borders_of(const WindowPlan& plan) {
  Borders borders;
  for (const WindowSpan& window : plan.windows) {
    if (window.index > 0) borders.windows.push_back(window.first_frame);
    for (const ChunkSpan& chunk : window_chunks(window, plan.request.chunk)) {
      const int first = latent_of_chunk(window, chunk);
      if (first == 0 || first == window.latent_frames) continue;
      // Latent frame `overlap_latents` of a later window is the first that shows new frames.
      const int64_t frame = window.index == 0 ? frames_of(first) : window.first_frame + temporal_stride * (first - plan.overlap_latents);
      if (frame > window.first_frame) borders.chunks.push_back(frame);
    }
  }
  return borders;
}

Borders borders_of(const RunLayout& layout) {
  Borders borders;
  const auto frame_of = [&](int latent) { return int64_t{temporal_stride} * latent - layout.missing_frames; };
  int shown = 0;  // latent frames of the windows before
  for (const RunLayout::Window& window : layout.windows) {
    if (shown > 0) borders.windows.push_back(frame_of(shown));
    int end = shown;
    for (size_t c = window.end_picture ? 1 : 0; c < window.chunks.size(); ++c) {
      const RunLayout::Chunk& chunk = window.chunks[c];
      if (chunk.place > shown) borders.chunks.push_back(frame_of(chunk.place));
      end = std::max(end, chunk.place + chunk.frames);
    }
    shown = end;
  }
  return borders;
}

SeamReport measure_seams(const at::Tensor& frames_in, const Borders& borders) {
  check_frames(frames_in, "frames");
  const at::Tensor frames = frames_in.cpu().contiguous();
  for (const auto* list : {&borders.windows, &borders.chunks})
    for (const int64_t frame : *list)
      if (frame < 1 || frame >= frames.size(0))
        fail_usage("a border at frame {} lies outside the video, which has frames 0 to {}; borders count from 1", frame,
                   frames.size(0) - 1);
  const std::vector<Step> steps = steps_of(frames);
  std::vector<double> luma, chroma;
  for (int64_t t = 1; t < static_cast<int64_t>(steps.size()); ++t) {
    if (contains(borders.windows, t) || contains(borders.chunks, t)) continue;
    luma.push_back(steps[t].luma), chroma.push_back(steps[t].chroma);
  }
  SeamReport report;
  report.median_luma = median(std::move(luma));
  report.median_chroma = median(std::move(chroma));
  const auto jump = [&](int64_t t) {
    return SeamJump{t, steps[t].luma / std::max(report.median_luma, kSmallestStep),
                    steps[t].chroma / std::max(report.median_chroma, kSmallestStep), steps[t].luma, steps[t].chroma};
  };
  for (const int64_t t : borders.windows) report.windows.push_back(jump(t));
  for (const int64_t t : borders.chunks) report.chunks.push_back(jump(t));
  for (int64_t t = 1; t < static_cast<int64_t>(steps.size()); ++t)
    if (!report.largest || steps[t].luma > report.largest->luma_step) report.largest = jump(t);
  return report;
}

std::optional<MeanJump> mean_jump(const std::vector<SeamJump>& jumps) {
  if (jumps.empty()) return std::nullopt;
  MeanJump mean;
  for (const SeamJump& jump : jumps) mean.luma += jump.luma, mean.chroma += jump.chroma;
  return MeanJump{mean.luma / static_cast<double>(jumps.size()), mean.chroma / static_cast<double>(jumps.size())};
}

nlohmann::ordered_json seam_json(const SeamReport& report) {
  const auto one = [](const SeamJump& jump) -> nlohmann::ordered_json {
    return {{"frame", jump.frame},
            {"luma", jump.luma},
            {"chroma", jump.chroma},
            {"luma_step", jump.luma_step},
            {"chroma_step", jump.chroma_step}};
  };
  nlohmann::ordered_json out;
  out["median_step"] = {{"luma", report.median_luma}, {"chroma", report.median_chroma}};
  out["windows"] = out["chunks"] = nlohmann::ordered_json::array();
  for (const SeamJump& jump : report.windows) out["windows"].push_back(one(jump));
  for (const SeamJump& jump : report.chunks) out["chunks"].push_back(one(jump));
  out["largest"] = report.largest ? one(*report.largest) : nlohmann::ordered_json(nullptr);
  return out;
}

}  // namespace longtake
