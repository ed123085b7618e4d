// run.json: what a run was begun with, so that it can go on with the same, or be told what differs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "runtime/options.h"
#include "runtime/recipe.h"

namespace longtake {

// The files that the result of such a run depends on beside the model's, by option key: pictures and the video.
std::map<std::string, std::filesystem::path> input_files(const GenerateOptions& options);

struct RunRecord {
  std::string version;                            // of the program
  std::map<std::string, std::string> options;     // all of the schema, as on the command line; device and threads as found
  std::map<std::string, std::string> model;       // the model's files: size, and CRC-32 of the first and the last MiB
  std::map<std::string, std::string> inputs;      // by option key: files that the result depends on, size and CRC-32
  std::map<std::string, std::string> environment; // what can change the last bits: LibTorch, vector instructions, device

  std::string to_json() const;
  // Strict: Error (bad_file) with `origin` for anything that to_json() does not write.
  static RunRecord from_json(const std::string& text, const std::string& origin);
};

// `version` is the program's; the seed must be set. `threads` is the number in use.
RunRecord make_run_record(const GenerateOptions& options, const ModelFiles& files, const std::string& version,
                          const std::string& device, int threads);

// Sets what the run was begun with, on the level of a recipe, so that flags, --set and --config still have their say.
void apply_record(OptionSet& options, const RunRecord& record, const std::string& origin);

// `recipe` is that of the model. Throws (usage) naming the first option that would change the result and differs, with its value then and now.
// Device and threads that are left open count as those of the run.
void check_same_options(const RunRecord& begun, const Recipe& recipe, const OptionSet& options, const std::string& origin);

// The same, with device and threads as `now` has them found; other differences that change the result (program version, model files, input files)
// are errors too.
void check_same_run(const RunRecord& begun, const RunRecord& now, const Recipe& recipe, const OptionSet& options, const std::string& origin);

// Throws (bad_file) where the file that the run was given for this option has another content now.
void check_same_file(const RunRecord& begun, const std::string& key, const std::filesystem::path& path, const std::string& origin);

// What the encoding of a text depends on, besides the text and the device: the files of encoder and tokenizer, LibTorch, vector instructions.
std::string text_encoder_fingerprint(const ModelFiles& files);

// Throws (bad_file) where the VAE is another file than the one of the run: its latents would decode to something else.
void check_same_vae(const RunRecord& begun, const ModelFiles& files, const std::string& origin);

// Differences that may change the last bits of what is still to be computed, as one sentence; "" for none.
std::string environment_note(const RunRecord& begun, const RunRecord& now);

}  // namespace longtake
