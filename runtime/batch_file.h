// What a batch shall make: a prompt list or a list of jobs becomes one complete set of options a video.
//
// A prompt list (any file that does not end in .yaml or .yml) has one prompt a line; empty lines are skipped, and a UTF-8
// byte order mark and carriage returns are not part of a prompt. A job list is a YAML list of mappings with the keys of
// generate, and `name`: the file's name without .mp4, by default made from the prompt.
//
// A job's keys override --config and are overridden by --set and flags. Where neither the job nor the user gives the video's
// own seed, it is `seed` plus a number that follows from the name: other videos of the list do not change it.
//
// Errors are usage errors that begin with file and line; bad_file for what cannot be read. Input is not trusted: sizes, line
// lengths and counts are bounded, and names cannot leave the folder (batch_names.h).
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "runtime/options.h"
#include "runtime/recipe.h"

namespace longtake {

struct BatchJob {
  std::string name;              // below the folder of videos, without .mp4; "/" separates folders, which only programs may use
  std::string place;             // where it was asked for: "jobs.yaml line 3"
  OptionSet options;             // complete; `out` is the name with .mp4
  nlohmann::ordered_json about;  // kept with the video's record; an object, or null
};

// A model's recipe, by what --model says; it stays where it is.
using RecipeFinder = std::function<const Recipe&(const std::string& model)>;

// From the recipes of default_search(), each read once.
RecipeFinder recipe_finder();

// `base` holds what --config, --set and flags gave, and no prompt, output or recipe.
std::vector<BatchJob> read_batch_file(const std::filesystem::path& path, const OptionSet& base, const RecipeFinder& recipes);

std::vector<BatchJob> parse_prompt_list(const std::string& text, const std::string& origin, const OptionSet& base,
                                        const RecipeFinder& recipes);
std::vector<BatchJob> parse_job_list(const std::string& text, const std::string& origin, const OptionSet& base,
                                     const RecipeFinder& recipes);

// The lines of a prompt list with their numbers from 1, empty ones left out.
struct PromptLine {
  int line = 0;
  std::string text;
};
std::vector<PromptLine> prompt_lines(const std::string& text, const std::string& origin);

inline constexpr size_t kMaxPromptListBytes = 8 << 20;

// Checks a job for a model of this recipe across its options, as validate() and make_video_request() do; messages begin with its place.
void check_job(const BatchJob& job, const Recipe& recipe);

// I of N, counted from 1: the jobs with index % count == index - 1.
struct Shard {
  int index = 1, count = 1;
  bool has(size_t job) const { return job % static_cast<size_t>(count) == static_cast<size_t>(index - 1); }
};

// "2/8"; "1/1" is everything.
Shard parse_shard(const std::string& text);

}  // namespace longtake
