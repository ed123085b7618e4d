#include "apps/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include "base/error.h"

namespace longtake {
namespace {

// A handler can reach nothing but this.
volatile sig_atomic_t requests = 0;

void on_signal(int) {
  if (requests) _exit(static_cast<int>(ExitCode::interrupted));
  requests = 1;
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
  requests = 0;
  handle(SIGINT, on_signal);
  handle(SIGTERM, on_signal);
}

InterruptGuard::~InterruptGuard() {
  handle(SIGINT, SIG_DFL);
  handle(SIGTERM, SIG_DFL);
}

bool InterruptGuard::requested() { return requests != 0; }

}  // namespace longtake
