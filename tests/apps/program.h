// Runs the real binary and collects what it says.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace longtake {

struct ProgramResult {
  int status = -1;  // exit code, or 128 + the signal that ended it
  std::string out, err;
};

struct ProgramLimits {
  std::optional<unsigned long> file_bytes;  // writes beyond this fail as on a full disk (EFBIG)
  std::filesystem::path cache;              // the user's cache folder; "": an empty one of its own
};

// longtake with these arguments, the source tree's recipes and models, and no terminal.
ProgramResult run_longtake(const std::vector<std::string>& arguments, const ProgramLimits& limits = {});

// The same in the background.
class RunningProgram {
 public:
  explicit RunningProgram(const std::vector<std::string>& arguments, const ProgramLimits& limits = {});
  ~RunningProgram();  // kills it if it still runs
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;

  bool running();
  void send(int signal);
  // Until it has ended.
  ProgramResult wait();

 private:
  struct Files;
  std::unique_ptr<Files> files_;
  int child_ = -1;
  std::optional<int> status_;  // as waitpid gives it
};

// A generate command of the demo model that takes a second: 17 frames of 64x64 in 4 steps, seed 1, two latent frames a chunk.
std::vector<std::string> quick_generate(const std::filesystem::path& out, const std::vector<std::string>& more = {});

}  // namespace longtake
