// longtake inspect FILE: what a video says about its making, or what a checkpoint holds.
#include <c10/core/ScalarType.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "base/error.h"
#include "models/weights/checkpoint.h"
#ifdef LONGTAKE_VIDEO_IO
#include "video_io/reader.h"
#endif

namespace longtake {
namespace {

void inspect_checkpoint(const std::filesystem::path& path, bool all) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  std::map<std::string, std::pair<int64_t, int64_t>> by_dtype;  // tensors, elements
  for (const std::string& name : checkpoint.names()) {
    const TensorInfo& info = checkpoint.info(name);
    int64_t elements = 1;
    for (int64_t size : info.shape) elements *= size;
    auto& [tensors, total] = by_dtype[c10::toString(info.dtype)];
    ++tensors;
    total += elements;
    if (all) fmt::print("{:<60} {:<10} [{}]\n", name, c10::toString(info.dtype), fmt::join(info.shape, ", "));
  }
  fmt::print("{}: {} tensors, {:.1f} MB\n", path.string(), checkpoint.names().size(), static_cast<double>(checkpoint.bytes()) / 1e6);
  for (const auto& [dtype, count] : by_dtype)
    fmt::print("  {}: {} tensors, {:.3f} M values\n", dtype, count.first, static_cast<double>(count.second) / 1e6);
  for (const auto& [key, value] : checkpoint.metadata()) fmt::print("  metadata {}: {}\n", key, value);
  if (!all) fmt::print("  --all lists the tensors\n");
}

#ifdef LONGTAKE_VIDEO_IO
void inspect_video(const std::filesystem::path& path) {
  const VideoInfo info = probe(path);
  nlohmann::ordered_json out;
  out["file"] = path.string();
  out["video"] = {{"codec", info.codec},   {"pixel_format", info.pixel_format}, {"width", info.width}, {"height", info.height},
                  {"fps", info.fps},       {"frames", info.frames},             {"seconds", info.duration},
                  {"colours", info.matrix}, {"container", info.container}};
  if (const auto record = tags_record(info.tags))
    out["made_with"] = *record;
  else
    out["tags"] = info.tags;
  fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}
#endif

}  // namespace

void add_inspect(CLI::App& program) {
  struct Arguments {
    std::string file;
    bool all = false;
  };
  auto* verb = program.add_subcommand("inspect", "Show how a video was made, or what a checkpoint holds");
  auto a = std::make_shared<Arguments>();
  verb->add_option("FILE", a->file, "A video, a checkpoint file, or a folder of shards")->required();
  verb->add_flag("--all", a->all, "List every tensor of a checkpoint");
  verb->callback([a] {
    const std::filesystem::path path(a->file);
    if (!std::filesystem::exists(path)) fail_file("{} does not exist", a->file);
    const std::string extension = path.extension();
    const bool checkpoint = std::filesystem::is_directory(path) || extension == ".safetensors" || extension == ".pth" ||
                            extension == ".pt" || extension == ".bin" || extension == ".json";
#ifdef LONGTAKE_VIDEO_IO
    if (!checkpoint) return inspect_video(path);
#else
    if (!checkpoint) fail_usage("{} is no checkpoint, and this build cannot read videos (LONGTAKE_VIDEO_IO is off)", a->file);
#endif
    inspect_checkpoint(path, a->all);
  });
}

}  // namespace longtake
