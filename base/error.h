// The error type of the whole program, and the exit codes it maps to.
//
// A message is one sentence that says what was expected, what was found and what to do next. Library code throws; only
// apps/main.cpp turns an Error into text on stderr and an exit code.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace longtake {

enum class ExitCode {
  ok = 0,
  internal = 1,     // a bug of ours
  faults_found = 1, // a check that ran and found faults, as grep and diff have it
  usage = 2,        // wrong option, key or value
  bad_file = 3,     // missing, unreadable, malformed or unwritable file
  no_memory = 4,    // does not fit
  numerical = 5,    // non-finite values
  partial = 6,      // finished in part
  interrupted = 130
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// Wrong option, key or value (exit code 2).
template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ExitCode::usage, fmt::format(format, std::forward<Args>(args)...));
}

// Missing, malformed or unwritable file (exit code 3).
template <class... Args>
[[noreturn]] void fail_file(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ExitCode::bad_file, fmt::format(format, std::forward<Args>(args)...));
}

// A broken promise between our own modules (exit code 1); checked in release builds too.
#define LONGTAKE_CHECK(condition, ...)                                                              \
  do {                                                                                              \
    if (!(condition))                                                                               \
      ::longtake::fail(::longtake::ExitCode::internal, "{}: {}", __func__, fmt::format(__VA_ARGS__)); \
  } while (false)

}  // namespace longtake
