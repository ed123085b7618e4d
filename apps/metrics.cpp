// longtake metrics VIDEO [OTHER]: how well a clip of the demo world follows its prompt, and how close another video comes to it, as JSON.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "base/error.h"
#include "models/demo/world.h"
#include "models/weights/checkpoint.h"
#include "video_io/follow.h"
#include "video_io/metadata.h"
#include "video_io/metrics.h"
#include "video_io/reader.h"

namespace longtake {
namespace {

struct Clip {
  at::Tensor frames;  // uint8 [T, H, W, 3]
  std::string prompt;
};

// A video, or the raw frames that generate writes as .safetensors.
Clip load_clip(const std::string& path) {
  const auto prompt_of = [](const nlohmann::json& record) {
    return record.is_object() && record.contains("prompt") && record["prompt"].is_string() ? record["prompt"].get<std::string>() : "";
  };
  if (std::filesystem::path(path).extension() == ".safetensors") {
    const Checkpoint file = Checkpoint::open(path);
    if (!file.contains("frames")) fail_file("{} has no tensor 'frames'; give a video, or what generate wrote as .safetensors", path);
    const TensorInfo& info = file.info("frames");
    if (info.dtype != at::kByte || info.shape.size() != 4 || info.shape[3] != 3)
      fail_file("{}: frames must be 8-bit values [frames, height, width, 3]", path);
    const auto metadata = file.metadata();
    const auto record = metadata.find("longtake");
    return {file.tensor("frames"), record == metadata.end() ? "" : prompt_of(nlohmann::json::parse(record->second, nullptr, false))};
  }
  const auto record = tags_record(probe(path).tags);
  return {read_video(path), record ? prompt_of(*record) : ""};
}

nlohmann::ordered_json quality_report(const std::string& path, const FrameQuality& quality) {
  return {{"video", path},
          {"psnr", quality.mean_psnr},
          {"psnr_pooled", quality.pooled_psnr},
          {"ssim", quality.mean_ssim},
          {"psnr_by_frame", quality.psnr},
          {"ssim_by_frame", quality.ssim}};
}

}  // namespace

void add_metrics(CLI::App& program) {
  struct Arguments {
    std::string video, other, prompt;
  };
  auto* verb = program.add_subcommand("metrics", "How well a demo video follows its prompt, and how close another one comes to it, as JSON");
  auto a = std::make_shared<Arguments>();
  verb->add_option("VIDEO", a->video, "A video, or frames that generate wrote as .safetensors")->required();
  verb->add_option("OTHER", a->other, "Another of the same size and length: its PSNR and SSIM against VIDEO (data range 1, SSIM as scikit-image)");
  verb->add_option("--prompt", a->prompt, "What VIDEO should show; default: the prompt in its metadata");
  verb->callback([a] {
    const Clip clip = load_clip(a->video);
    const std::string prompt = a->prompt.empty() ? clip.prompt : a->prompt;
    nlohmann::ordered_json out;
    out["video"] = a->video;
    if (!a->other.empty()) {
      const Clip other = load_clip(a->other);
      if (clip.frames.sizes() != other.frames.sizes())
        fail_usage("{} has {} frames of {}x{} and {} has {} of {}x{}; give two videos of one size and length", a->video, clip.frames.size(0),
                   clip.frames.size(1), clip.frames.size(2), a->other, other.frames.size(0), other.frames.size(1), other.frames.size(2));
      out["against"] = quality_report(a->other, compare_frames(clip.frames, other.frames));
    }
    out["prompt"] = prompt;
    out.update(nlohmann::ordered_json(follow_report(measure_clip(clip.frames), demo::parse_caption(prompt))));
    fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  });
}

}  // namespace longtake
