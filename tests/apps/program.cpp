#include "tests/apps/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/video_io/video_helpers.h"

namespace longtake {

ProgramResult run_longtake(const std::vector<std::string>& arguments, const ProgramLimits& limits) {
  const TemporaryFolder folder;
  const std::string out = folder / "out", err = folder / "err";
  std::vector<char*> argv;
  std::string program = LONGTAKE_PROGRAM;
  argv.push_back(program.data());
  std::vector<std::string> copies = arguments;
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);

  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child == 0) {
    const auto redirect = [](const std::string& path, int to) {
      const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      if (file < 0 || dup2(file, to) < 0) _exit(127);
    };
    redirect(out, STDOUT_FILENO), redirect(err, STDERR_FILENO);
    if (limits.file_bytes) {
      signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{*limits.file_bytes, *limits.file_bytes};
      if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(127);
    }
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child) throw std::runtime_error("cannot wait for longtake");
  ProgramResult result;
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = read_bytes(out), result.err = read_bytes(err);
  return result;
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
