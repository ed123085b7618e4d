#include "runtime/memory_check.h"

#include <c10/core/ScalarType.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>

#include "base/error.h"
#include "runtime/engine.h"
#include "runtime/machine.h"
#include "runtime/progress.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// A file with one number; nothing for "max" or no file.
std::optional<double> number_in(const fs::path& path) {
  std::ifstream file(path);
  double value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

// The value behind `key` in lines "key value"; 0 where there is none.
double value_of(const std::string& text, const std::string& key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    double value = 0;
    if (words >> name >> value && name == key) return value;
  }
  return 0;
}

// What a control group and those above it still allow. Files that were read can be dropped, so they do not count as used.
double left_in_group(const fs::path& root, const std::string& group, const char* limit_file, const char* used_file, const char* cache_key) {
  double left = std::numeric_limits<double>::infinity();
  fs::path path = root / fs::path(group).relative_path();
  for (size_t depth = 0; depth < 64; ++depth) {
    const auto limit = number_in(path / limit_file), used = number_in(path / used_file);
    if (limit && used) left = std::min(left, std::max(0.0, *limit - *used + value_of(text_of(path / "memory.stat"), cache_key)));
    if (path == root || !path.has_relative_path() || path.parent_path() == path) break;
    path = path.parent_path();
    if (path.native().size() < root.native().size()) break;
  }
  return left;
}

// The largest size of the same shape, in steps of a sixteenth, that fits; nothing where that is none.
std::optional<FrameSize> smaller_size(const GenerateOptions& options, const std::function<double(const GenerateOptions&)>& peak, double room) {
  for (int part = 15; part >= 6; --part) {
    GenerateOptions o = options;
    const auto scaled = [&](int side) { return std::max(16, side * part / 16 / 16 * 16); };
    o.size = {scaled(options.size.height), scaled(options.size.width)};
    if (peak(o) <= room) return o.size;
  }
  return std::nullopt;
}

}  // namespace

std::optional<double> available_memory(const std::string& meminfo, const std::string& cgroup, const std::string& cgroup_root) {
  double least = std::numeric_limits<double>::infinity();
  if (const double kilobytes = value_of(meminfo, "MemAvailable:"); kilobytes > 0) least = kilobytes * 1024;
  std::istringstream lines(cgroup);
  for (std::string line; std::getline(lines, line);) {  // "0::/group" (version 2), "4:memory:/group" (version 1)
    const size_t first = line.find(':'), second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (group.find("..") != std::string::npos) continue;
    if (controllers.empty())
      least = std::min(least, left_in_group(cgroup_root, group, "memory.max", "memory.current", "inactive_file"));
    else if (("," + controllers + ",").find(",memory,") != std::string::npos)
      least = std::min(least, left_in_group(fs::path(cgroup_root) / "memory", group, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                            "total_inactive_file"));
  }
  return least < std::numeric_limits<double>::infinity() ? std::optional(least) : std::nullopt;
}

std::optional<MemoryRoom> memory_room(const GenerateOptions& options, const at::Device& device) {
  if (options.memory_budget > 0) {
    // What the process holds before it begins is part of its memory on the CPU.
    const double base = device.is_cpu() ? static_cast<double>(resident_bytes()) : 0;
    return MemoryRoom{std::max(0.0, static_cast<double>(options.memory_budget) - base), "left of --memory-budget"};
  }
  const auto free = device.is_cuda() ? free_device_memory(device)
                                     : available_memory(text_of("/proc/meminfo"), text_of("/proc/self/cgroup"), "/sys/fs/cgroup");
  if (!free) return std::nullopt;
  return MemoryRoom{*free, device.is_cuda() ? fmt::format("free on {}", device.str()) : "free on this machine"};
}

DecodeChoice choose_decoding(const DecodeChoice& asked, bool may_lower, const std::function<double(const DecodeChoice&)>& peak, double room) {
  DecodeChoice choice = asked;
  if (choice.ahead && peak(choice) > room) choice.ahead = false;
  while (may_lower && choice.latents > 1 && peak(choice) > room) --choice.latents;
  return choice;
}

DecodeChoice choose_decoding(const GenerateOptions& options, PlanInput input, double room) {
  GenerateSettings& s = input.settings;
  const auto peak = [&](const DecodeChoice& choice) {
    s.decode_latents = choice.latents, s.decode_ahead = choice.ahead;
    return plan_memory(input).peak();
  };
  const bool open = options.decode_latents == 0;
  return choose_decoding({open ? kUsualDecodeLatents : options.decode_latents, s.decode_ahead}, open, peak, room);
}

int choose_decode_latents(int asked, bool may_lower, const std::function<double(int)>& peak, const MemoryRoom& room, const at::Device& device) {
  int latents = asked;
  while (latents > 1 && peak(latents) > room.bytes) --latents;
  const bool fits = peak(latents) <= room.bytes;
  if (fits && (may_lower || latents == asked)) return latents;
  const std::string needed = format_bytes(peak(latents));
  const std::string what = fits ? fmt::format("it fits with --decode-latents {} ({})", latents, needed)
                                : fmt::format("one at once would need {}{}", needed, device.is_cpu() ? "" : "; take --device cpu");
  fail(ExitCode::no_memory, "decoding {} latent frame{} at once is expected to need {} of memory, and {} are {}; {}; a larger --memory-budget runs it all the same",
       asked, asked == 1 ? "" : "s", format_bytes(peak(asked)), format_bytes(room.bytes), room.reason, what);
}

MemoryOutlook memory_outlook(const GenerateOptions& options, const PlanInput& input, double room) {
  MemoryOutlook outlook;
  outlook.otherwise = "take a smaller model, or a shorter --window";
  outlook.peak = [&input, room](const GenerateOptions& o) {
    try {
      PlanInput changed = input;
      changed.form.fp8 = o.precision == "fp8";
      changed.offload = o.offload;
      changed.vae_value_bytes = static_cast<int64_t>(c10::elementSize(ModelTarget{.vae_dtype = dtype_named(o.vae_dtype)}.wan_vae_dtype()));
      RunRequest request = make_request(o);
      request.shown_frames = input.shown_frames;
      plan_request(changed, request);
      const DecodeChoice choice = choose_decoding(o, changed, room);
      changed.settings.decode_latents = choice.latents;
      return plan_memory(changed).peak();
    } catch (const Error&) {
      return std::numeric_limits<double>::infinity();
    }
  };
  auto& changes = outlook.changes;
  if (options.decode_latents > 1) changes.push_back({"--decode-latents 1", [](GenerateOptions& o) { o.decode_latents = 1; }});
  if (!input.on_cpu && !options.offload) changes.push_back({"--offload", [](GenerateOptions& o) { o.offload = true; }});
  if (!input.on_cpu && input.vae_value_bytes == 4)
    changes.push_back({"--vae-dtype bf16", [](GenerateOptions& o) { o.vae_dtype = "bf16"; }});
  if (input.fp8_possible && !input.form.fp8) changes.push_back({"--precision fp8", [](GenerateOptions& o) { o.precision = "fp8"; }});
  if (options.history == "reencode" && input.settings.plan.windows.size() > 1)
    changes.push_back({"--history carry", [](GenerateOptions& o) { o.history = "carry"; }});
  if (options.kv == "full") changes.push_back({"--kv stream:2", [](GenerateOptions& o) { o.kv = "stream:2"; }});
  return outlook;
}

std::vector<MemoryRemedy> memory_remedies(const GenerateOptions& options, const MemoryOutlook& outlook, double room) {
  const auto& peak_with = outlook.peak;
  std::vector<MemoryRemedy> remedies;
  GenerateOptions together = options;
  std::string all_flags;
  const double before = peak_with(options);
  bool enough = false;
  for (const auto& change : outlook.changes) {
    GenerateOptions o = options, both = together;
    change.apply(o), change.apply(both);
    const double peak = peak_with(o), together_peak = peak_with(both);
    if (peak < 0.98 * before) {
      remedies.push_back({change.flags, peak});
      enough |= peak <= room;
    }
    if (together_peak < 0.98 * peak_with(together)) {
      together = both;
      all_flags += (all_flags.empty() ? "" : " ") + change.flags;
    }
  }
  if (!enough && all_flags.find(" --") != std::string::npos) {
    remedies.push_back({all_flags, peak_with(together)});
    enough = remedies.back().peak <= room;
  }
  if (const auto size = smaller_size(options, peak_with, room)) {
    GenerateOptions o = options;
    o.size = *size;
    remedies.push_back({fmt::format("--size {}x{}", size->height, size->width), peak_with(o)});
  }
  return remedies;
}

void check_memory(const GenerateOptions& options, const MemoryPlan& plan, const MemoryOutlook& outlook, const MemoryRoom& room) {
  if (plan.peak() <= room.bytes) return;
  std::vector<std::string> fit, less;
  for (const MemoryRemedy& remedy : memory_remedies(options, outlook, room.bytes))
    (remedy.peak <= room.bytes ? fit : less).push_back(fmt::format("{} ({})", remedy.flags, format_bytes(remedy.peak)));
  std::string what;
  if (!fit.empty())
    what = fmt::format("it fits with {}", fmt::join(fit, ", or with "));
  else if (!less.empty())
    what = fmt::format("not enough of their own are {}; {}", fmt::join(less, ", "), outlook.otherwise);
  else
    what = outlook.otherwise;
  fail(ExitCode::no_memory, "the run is expected to need {} of memory while {}, and {} are {}; {}; a larger --memory-budget runs it all the same",
       format_bytes(plan.peak()), name_of(plan.widest()), format_bytes(room.bytes), room.reason, what);
}

}  // namespace longtake
