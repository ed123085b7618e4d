#include "tests/apps/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/video_io/video_helpers.h"

namespace longtake {

struct RunningProgram::Files {
  TemporaryFolder folder;
  std::string out = folder / "out", err = folder / "err", cache = folder / "cache";
};

RunningProgram::RunningProgram(const std::vector<std::string>& arguments, const ProgramLimits& limits) : files_(std::make_unique<Files>()) {
  std::vector<char*> argv;
  std::string program = LONGTAKE_PROGRAM;
  argv.push_back(program.data());
  std::vector<std::string> copies = arguments;
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);

  const std::string cache = limits.cache.empty() ? files_->cache : limits.cache.string();
  child_ = fork();
  if (child_ < 0) throw std::runtime_error("cannot fork");
  if (child_ == 0) {
    const auto redirect = [](const std::string& path, int to) {
      const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      if (file < 0 || dup2(file, to) < 0) _exit(127);
    };
    redirect(files_->out, STDOUT_FILENO), redirect(files_->err, STDERR_FILENO);
    if (limits.file_bytes) {
      const rlimit limit{*limits.file_bytes, *limits.file_bytes};
      if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(127);
    }
    setenv("XDG_CACHE_HOME", cache.c_str(), 1);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
}

RunningProgram::~RunningProgram() {
  if (status_) return;
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
}

bool RunningProgram::running() {
  int status = 0;
  if (!status_ && waitpid(child_, &status, WNOHANG) == child_) status_ = status;
  return !status_;
}

void RunningProgram::send(int signal) {
  if (running()) kill(child_, signal);
}

ProgramResult RunningProgram::wait() {
  int status = 0;
  if (!status_) {
    if (waitpid(child_, &status, 0) != child_) throw std::runtime_error("cannot wait for longtake");
    status_ = status;
  }
  ProgramResult result;
  result.status = WIFEXITED(*status_) ? WEXITSTATUS(*status_) : 128 + WTERMSIG(*status_);
  result.out = read_bytes(files_->out), result.err = read_bytes(files_->err);
  return result;
}

ProgramResult run_longtake(const std::vector<std::string>& arguments, const ProgramLimits& limits) {
  return RunningProgram(arguments, limits).wait();
}

std::vector<std::string> quick_generate(const std::filesystem::path& out, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"generate", "-m",      "demo",   "-p",       "a red circle moves up over grass",
                                        "-o",       out,       "--seed", "1",        "--frames",
                                        "17",       "--size",  "64x64",  "--steps",  "4",
                                        "--chunk",  "2",       "--set",  "sampling.ar_step=1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace longtake
