// What a call that must be refused says.
#pragma once

#include <functional>
#include <string>

#include "base/error.h"
#include "tests/catch.h"

namespace longtake {

// The message of the Error (bad_file) that the call throws, or "" where it throws none.
inline std::string refused(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::bad_file);
    return error.what();
  }
  return "";
}

}  // namespace longtake
