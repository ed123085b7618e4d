#include "apps/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "base/error.h"

namespace longtake {
namespace {

// A handler can reach nothing but this; threads ask for it.
std::atomic<bool> requested_once = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int) {
  if (requested_once.exchange(true)) _exit(static_cast<int>(ExitCode::interrupted));
  constexpr char text[] = "\nlongtake: stopping after this step; once more stops at once\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);
}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(signal, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  requested_once = false;
  handle(SIGINT, on_signal);
  handle(SIGTERM, on_signal);
}

InterruptGuard::~InterruptGuard() {
  handle(SIGINT, SIG_DFL);
  handle(SIGTERM, SIG_DFL);
}

bool InterruptGuard::requested() { return requested_once; }

}  // namespace longtake
