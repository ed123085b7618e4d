// The options of a generation run: one schema from which command line, help, YAML files, checks and manifests all
// follow.
//
// Every field of GenerateOptions has exactly one entry in option_schema(): key path, flags, kind, range, help. Values
// arrive as text from six levels, each of which overrides those before it whatever the order of the calls: built-in
// default, model recipe, --config file, the job of a batch, --set key=value, named flag. The set remembers where each value
// came from.
//
// Errors are usage errors that begin with the origin of the text ("run.yaml line 3", "--frames") and say what was
// expected and found.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/windows.h"

namespace longtake {

struct FrameSize {
  int height = 0, width = 0;  // pixels
  bool operator==(const FrameSize&) const = default;
};

struct GenerateOptions {
  std::string model = "demo";
  std::string prompt;
  std::string prompts;  // over time instead of the one prompt, as in timeline.h
  std::string negative;
  std::string out;
  std::optional<uint64_t> seed;  // none: drawn at random by the program, and recorded
  std::string policy = "motioncache";
  std::string plan;  // a file that is replayed instead of a policy
  std::string parity = "none";

  FrameSize size{544, 960};
  int frames = 97;      // 0 where the duration is given instead
  double duration = 0;  // seconds; 0 where frames are given
  int fps = 24;
  int crf = 18;
  std::string preset = "medium";

  std::string image;      // a file: the first frame
  std::string video;      // a file: what the run goes on from
  double add = 0;         // seconds behind it
  int context = 0;        // of its last frames, that the model sees; 0: as many as overlap and video allow
  bool only_new = false;  // leave its frames out of the output
  std::string end_image;  // a file: what the video leads to

  int steps = 50;
  double guidance = 6;
  double shift = 8;
  int window = 97;   // frames
  int overlap = 17;  // frames
  int chunk = 5;     // latent frames
  int ar_step = 5;
  int addnoise = 20;
  std::string history = "reencode";
  std::string kv = "full";
  int in_flight = 4;  // chunks; this and the next four are MAGI-1's
  std::string key_chunks = "5,4,3,2";
  int clean_key_chunks = 1;  // 0: as in the last part
  double prev_guidance = 1.5;
  std::string special_tokens = "high_quality,duration";

  std::string device = "auto";
  std::string dtype = "bf16";
  std::string vae_dtype = "auto";
  std::string precision = "auto";
  int decode_latents = 0;  // 0: as many as there is memory for, up to the usual number
  bool offload = false;
  int64_t memory_budget = 0;  // bytes; 0: what is free
  int threads = 0;
  std::string json_log;
  std::string record_plan;
  bool dry_run = false;
  bool resume = false;
  bool overwrite_run = false;
  bool keep_run = false;
  std::string preview = "none";
  std::string text_cache = "on";
  int64_t checkpoint_budget = 1'000'000'000;  // bytes

  bool operator==(const GenerateOptions&) const = default;
};

// ---- schema

enum class OptionKind { text, timeline, choice, integer, number, toggle, seed, size, seconds, bytes };

using OptionField =
    std::variant<std::string GenerateOptions::*, int GenerateOptions::*, int64_t GenerateOptions::*, double GenerateOptions::*,
                 bool GenerateOptions::*, std::optional<uint64_t> GenerateOptions::*, FrameSize GenerateOptions::*>;

struct OptionInfo {
  std::string key;    // path in YAML files and for --set, "section.name" or "name"
  std::string flags;  // "-m,--model"
  OptionField field;
  OptionKind kind = OptionKind::text;
  std::string value_name;  // in help, such as FRAMES; "" for toggles
  std::string help;
  bool common = false;       // shown by --help; the others by --help-all
  bool from_recipe = false;  // a model recipe may set it
  bool free_on_resume = false;  // a resumed run may have another value: it changes no latents and no frames
  double min = 0, max = 0;   // integer, number, seconds; size: of each side
  std::vector<std::string> choices;
  std::string verb;  // the one that has the flags; "": every verb that takes options

  std::string flag() const;     // the long one: "--model"
  std::string section() const;  // "video" of "video.frames", "" at the top
  std::string name() const;     // "frames" of "video.frames"
};

// In the order of help and printed files; entries of a section stand together.
const std::vector<OptionInfo>& option_schema();

// nullptr where there is no such key.
const OptionInfo* find_option(std::string_view key);

// The value as text; parse_option reads it back.
std::string option_text(const GenerateOptions& options, const OptionInfo& info);

// Sets the field from text after checking kind and range.
void parse_option(GenerateOptions& options, const OptionInfo& info, std::string_view text, const std::string& where);

// For help: "default: 50", "default: from the model's recipe", with range or choices and unit.
std::string option_notes(const OptionInfo& info);

// ---- values with their origin

enum class SourceLevel { builtin, recipe, config, job, set, flag };

struct OptionSource {
  SourceLevel level = SourceLevel::builtin;
  std::string where = "default";
};

struct OptionAssignment {
  std::string key;
  std::string value;
  std::string where;
};

class OptionSet {
 public:
  const GenerateOptions& values() const { return values_; }
  const OptionSource& source(std::string_view key) const;

  // Unknown keys are errors with the nearest match. A level below the value's present one is checked and then ignored.
  // video.frames and video.duration exclude each other: the higher level wins, both on one level are an error.
  void set(const OptionAssignment& assignment, SourceLevel level);

  // "key=value" of --set.
  void set(std::string_view key_and_value);

  // A YAML document (options_yaml.h), level config.
  void apply_yaml(const std::string& text, const std::string& origin);

  // A recipe's defaults, level recipe, behind everything that names a parity: with one, sampling.history stays the references'. Keys that
  // recipes must not set are errors.
  void apply_recipe(const std::vector<OptionAssignment>& defaults);

  // All values but those with the keys `without`, as YAML with their origins as comments. Applying it to a fresh set gives equal
  // values.
  std::string to_yaml(const std::vector<std::string>& without = {}) const;

  // The same, nested and typed, in schema order; the seed is null while it is random.
  nlohmann::ordered_json to_json(const std::vector<std::string>& without = {}) const;

 private:
  GenerateOptions values_;
  std::map<std::string, OptionSource, std::less<>> sources_;
};

// ---- checks across options

// What parity asks of the windows, with the frame count left at the option's.
WindowRequest window_request(const GenerateOptions& options);

// The windows of the run; a duration becomes the nearest frame count that fits and `note` (where given) says so. Where a video is gone on
// from, the plan's frames are those of the context and the new ones.
WindowPlan plan_video(const GenerateOptions& options, std::string* note = nullptr);

// The prompt, or the prompts over time as lines: what the video's metadata call its prompt.
const std::string& prompt_text(const GenerateOptions& options);

// What holds for every model: prompt and output are there (unless dry_run), inputs and run folders do not contradict each other, the
// device has a name.
void validate_run(const GenerateOptions& options);

// The same and what holds for SkyReels-V2: windows fit, the policy parses, parity settings agree.
void validate(const GenerateOptions& options);

// Refuses a length (video.frames, video.duration) that was asked for where conditioning.add says it.
void check_length(const OptionSet& options);

}  // namespace longtake
