// longtake metrics A [B]: how well a clip of the demo world follows its prompt, and how close two videos or two folders
// of videos are, as JSON.
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <set>

#include "apps/commands.h"
#include "base/error.h"
#include "models/demo/world.h"
#include "models/weights/checkpoint.h"
#include "runtime/options.h"
#include "video_io/comparison.h"
#include "video_io/follow.h"
#include "video_io/lpips.h"
#include "video_io/metadata.h"
#include "video_io/metrics.h"
#include "video_io/reader.h"
#include "video_io/seams.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct Clip {
  at::Tensor frames;  // uint8 [T, H, W, 3]
  std::string prompt;
  Borders borders;  // from the settings in the file; empty where it has none
};

// The borders of windows and chunks that the settings of a generated video tell.
Borders borders_in(const nlohmann::json& record, int64_t frames) {
  const auto settings = record.find("settings");
  if (settings == record.end() || !settings->is_object()) return {};
  OptionSet options;
  try {
    for (const OptionInfo& info : option_schema()) {
      if (info.section() != "sampling") continue;
      const auto section = settings->find("sampling");
      if (section == settings->end() || !section->is_object() || !section->contains(info.name())) continue;
      const nlohmann::json& value = (*section)[info.name()];
      options.set({info.key, value.is_string() ? value.get<std::string>() : value.dump(), "metadata"},
                  SourceLevel::config);
    }
    const nlohmann::json extends = record.value("extends", nlohmann::json::object());
    const int64_t context = extends.value("context", int64_t{0}), shown = extends.value("frames", int64_t{0});
    if (context < 0 || context > 1'000'000 || shown < 0 || shown >= frames) return {};
    WindowRequest request = window_request(options.values());
    request.given_frames = static_cast<int>(context);
    request.frames = static_cast<int>(frames - shown + context);
    Borders borders = borders_of(plan_windows(request));
    if (context == 0) return borders;
    // The model's frames begin with the context; the file shows the whole video instead, or none of it.
    for (auto* list : {&borders.windows, &borders.chunks}) {
      for (int64_t& frame : *list) frame += shown - context;
      std::erase_if(*list, [&](int64_t frame) { return frame <= shown; });
    }
    if (shown > 0) borders.windows.insert(borders.windows.begin(), shown);
    return borders;
  } catch (const nlohmann::json::exception&) {
    return {};
  } catch (const Error&) {
    return {};  // of another version, or not ours
  }
}

Clip clip_of(at::Tensor frames, const nlohmann::json& record) {
  Clip clip{std::move(frames), "", {}};
  if (!record.is_object()) return clip;
  // Of prompts over time, none is the whole clip's.
  const nlohmann::json settings = record.value("settings", nlohmann::json::object());
  const bool over_time = settings.is_object() && settings.contains("prompts") && settings["prompts"] != "";
  if (!over_time && record.contains("prompt") && record["prompt"].is_string()) clip.prompt = record["prompt"].get<std::string>();
  clip.borders = borders_in(record, clip.frames.size(0));
  return clip;
}

// A video, or the raw frames that generate writes as .safetensors.
Clip load_clip(const fs::path& path) {
  if (path.extension() == ".safetensors") {
    const Checkpoint file = Checkpoint::open(path);
    if (!file.contains("frames"))
      fail_file("{} has no tensor 'frames'; give a video, or what generate wrote as .safetensors", path.string());
    const TensorInfo& info = file.info("frames");
    if (info.dtype != at::kByte || info.shape.size() != 4 || info.shape[3] != 3 || info.shape[0] < 1)
      fail_file("{}: frames must be 8-bit values [frames, height, width, 3]", path.string());
    const auto metadata = file.metadata();
    const auto record = metadata.find("longtake");
    return clip_of(file.tensor("frames"),
                   record == metadata.end() ? nlohmann::json() : nlohmann::json::parse(record->second, nullptr, false));
  }
  const auto record = tags_record(probe(path).tags);
  return clip_of(read_video(path), record ? *record : nlohmann::json());
}

struct Arguments {
  std::string a, b, prompt, lpips, seams;
};

// "97,177" as frames that begin a window.
Borders borders_given(const std::string& text) {
  Borders borders;
  for (size_t start = 0; start <= text.size();) {
    const size_t comma = std::min(text.find(',', start), text.size());
    const std::string part = text.substr(start, comma - start);
    if (part.empty() || part.size() > 9 || part.find_first_not_of("0123456789") != std::string::npos)
      fail_usage("--seams must list frames that begin a window, such as 97,177, found '{}'", text);
    borders.windows.push_back(std::stoll(part));
    start = comma + 1;
  }
  return borders;
}

Json seams_of(const Arguments& a, const Clip& clip) {
  return seam_json(measure_seams(clip.frames, a.seams.empty() ? clip.borders : borders_given(a.seams)));
}

Json closeness(const Clip& reference, const Clip& test, const std::optional<Lpips>& lpips) {
  const FrameQuality quality = compare_frames(reference.frames, test.frames);
  Closeness close{quality, lpips ? lpips->distance(reference.frames, test.frames) : std::vector<double>()};
  Json out{{"psnr", quality.mean_psnr}, {"psnr_pooled", quality.pooled_psnr}, {"ssim", quality.mean_ssim}};
  if (lpips) out["lpips"] = *close.mean_lpips();
  out["psnr_by_frame"] = quality.psnr;
  out["ssim_by_frame"] = quality.ssim;
  if (lpips) out["lpips_by_frame"] = close.lpips;
  return out;
}

void check_same_shape(const fs::path& a, const Clip& x, const fs::path& b, const Clip& y) {
  if (x.frames.sizes() == y.frames.sizes()) return;
  fail_usage("{} has {} frames of {}x{} and {} has {} of {}x{}; give two videos of one size and length", a.string(),
             x.frames.size(0), x.frames.size(1), x.frames.size(2), b.string(), y.frames.size(0), y.frames.size(1),
             y.frames.size(2));
}

Json video_report(const Arguments& a, const fs::path& path, const Clip& clip) {
  const std::string prompt = a.prompt.empty() ? clip.prompt : a.prompt;
  Json out{{"video", path.string()}};
  out["prompt"] = prompt;
  out.update(Json(follow_report(measure_clip(clip.frames), demo::parse_caption(prompt))));
  out["seams"] = seams_of(a, clip);
  return out;
}

Json pair_report(const Arguments& a, const std::optional<Lpips>& lpips) {
  const Clip clip = load_clip(a.a), other = load_clip(a.b);
  check_same_shape(a.a, clip, a.b, other);
  Json out{{"video", a.a}};
  out["against"] = Json{{"video", a.b}};
  out["against"].update(closeness(clip, other, lpips));
  out["against"]["seams"] = seams_of(a, other);
  out.update(video_report(a, a.a, clip));
  return out;
}

// Videos right in a folder, by file name.
std::set<std::string> videos_in(const fs::path& folder) {
  static const std::set<std::string> kinds{".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".safetensors"};
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && kinds.contains(entry.path().extension().string()))
      names.insert(entry.path().filename().string());
  if (names.empty()) fail_file("the folder {} holds no videos ({})", folder.string(), fmt::join(kinds, " "));
  return names;
}

// Runs `report` for every name; a file that fails is listed with its error.
Json for_each_name(const std::set<std::string>& names, const std::function<Json(const std::string&)>& report,
                   Json& failed) {
  Json out = Json::array();
  failed = Json::array();
  for (const std::string& name : names) {
    try {
      Json entry{{"name", name}};
      entry.update(report(name));
      out.push_back(std::move(entry));
    } catch (const Error& error) {
      if (error.code() != ExitCode::usage && error.code() != ExitCode::bad_file) throw;
      failed.push_back({{"name", name}, {"error", error.what()}});
    }
  }
  return out;
}

Json mean_over(const Json& entries, const std::vector<const char*>& keys) {
  Json out = Json::object();
  for (const char* key : keys) {
    double sum = 0, count = 0;
    for (const Json& entry : entries)
      if (entry.contains(key)) sum += entry[key].get<double>(), ++count;
    if (count > 0) out[key] = sum / count;
  }
  return out;
}

Json folder_pair_report(const Arguments& a, const std::optional<Lpips>& lpips, Json& failed) {
  const std::set<std::string> in_a = videos_in(a.a), in_b = videos_in(a.b);
  std::set<std::string> both, only_a, only_b;
  std::set_intersection(in_a.begin(), in_a.end(), in_b.begin(), in_b.end(), std::inserter(both, both.end()));
  std::set_difference(in_a.begin(), in_a.end(), in_b.begin(), in_b.end(), std::inserter(only_a, only_a.end()));
  std::set_difference(in_b.begin(), in_b.end(), in_a.begin(), in_a.end(), std::inserter(only_b, only_b.end()));
  if (both.empty())
    fail_usage("no file name is in both {} and {} (for example {} and {}); give the same name to what belongs together",
               a.a, a.b, *in_a.begin(), *in_b.begin());
  Json out{{"a", a.a}, {"b", a.b}};
  out["pairs"] = for_each_name(
      both,
      [&](const std::string& name) {
        const Clip x = load_clip(fs::path(a.a) / name), y = load_clip(fs::path(a.b) / name);
        check_same_shape(fs::path(a.a) / name, x, fs::path(a.b) / name, y);
        Json report = closeness(x, y, lpips);
        report["seams"] = {{"a", seams_of(a, x)}, {"b", seams_of(a, y)}};
        return report;
      },
      failed);
  out["mean"] = mean_over(out["pairs"], {"psnr", "psnr_pooled", "ssim", "lpips"});
  out["mean"]["videos"] = out["pairs"].size();
  out["unmatched"] = {{"only_in_a", only_a}, {"only_in_b", only_b}};
  out["failed"] = failed;
  return out;
}

Json folder_report(const Arguments& a, Json& failed) {
  Json out{{"folder", a.a}};
  out["videos"] = for_each_name(
      videos_in(a.a),
      [&](const std::string& name) {
        const fs::path path = fs::path(a.a) / name;
        return video_report(a, path, load_clip(path));
      },
      failed);
  int asked = 0, followed = 0;
  for (const Json& video : out["videos"])
    if (video["follows"].is_boolean()) ++asked, followed += video["follows"].get<bool>();
  out["follows_share"] = asked ? Json(static_cast<double>(followed) / asked) : Json(nullptr);
  out["failed"] = failed;
  return out;
}

void run_metrics(const Arguments& a) {
  const c10::InferenceMode inference;
  const bool folder = fs::is_directory(a.a);
  if (!a.b.empty() && folder != fs::is_directory(a.b))
    fail_usage("{} is a {} and {} is not; give two videos or two folders", a.a, folder ? "folder" : "file", a.b);
  if (!a.lpips.empty() && a.b.empty()) fail_usage("--lpips compares; give two videos or two folders");
  std::optional<Lpips> lpips;
  if (!a.lpips.empty()) lpips.emplace(a.lpips, at::kCPU);
  Json failed = Json::array(), out;
  if (folder)
    out = a.b.empty() ? folder_report(a, failed) : folder_pair_report(a, lpips, failed);
  else
    out = a.b.empty() ? video_report(a, a.a, load_clip(a.a)) : pair_report(a, lpips);
  fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  if (!failed.empty())
    fail(ExitCode::partial, "{} could not be measured: {}; the output lists {} under 'failed'",
         failed.size() == 1 ? "a file" : fmt::format("{} files", failed.size()),
         failed.front()["error"].get<std::string>(), failed.size() == 1 ? "it" : "them");
}

}  // namespace

void add_metrics(CLI::App& program) {
  auto* verb = program.add_subcommand("metrics",
                                      "How close two videos or folders are (PSNR, SSIM, LPIPS, seams), and how well a "
                                      "demo video follows its prompt, as JSON");
  auto a = std::make_shared<Arguments>();
  verb->add_option("A", a->a, "A video, frames that generate wrote as .safetensors, or a folder of them")->required();
  verb->add_option("B", a->b,
                   "Another of the same kind, size and length: its closeness to A (data range 1, SSIM as "
                   "scikit-image). Files of two folders belong together by name");
  verb->add_option("--prompt", a->prompt, "What A should show; default: the prompt in its metadata");
  verb->add_option("--lpips", a->lpips,
                   "TorchScript module for LPIPS, called with two float tensors [n, 3, H, W] in [-1, 1]; runs what is "
                   "in it, so trust it")
      ->type_name("FILE");
  verb->add_option("--seams", a->seams,
                   "Frames that begin a window, such as 97,177; default: from the settings in the file's metadata")
      ->type_name("FRAMES");
  verb->callback([a] { run_metrics(*a); });
}

}  // namespace longtake
