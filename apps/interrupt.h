// Ctrl-C (SIGINT) and SIGTERM as a wish that the run asks about between rows; the second one ends the program at once.
#pragma once

namespace longtake {

class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  static bool requested();
};

}  // namespace longtake
