#include "runtime/machine.h"

#include "tests/catch.h"

#include <chrono>
#include <cstring>
#include <vector>

using namespace longtake;

TEST_CASE("the machine has a name, threads and memory") {
  const Machine machine = describe_machine(at::kCPU);
  CHECK_FALSE(machine.cpu.empty());
  CHECK(machine.threads > 0);
  CHECK(machine.memory > 100'000'000);
  CHECK(machine.gpu.empty());
}

TEST_CASE("peak memory sees what was held for a moment, and forgets what came before") {
  const auto hold = [](size_t bytes) {
    std::vector<char> block(bytes);
    std::memset(block.data(), 1, bytes);
    volatile char seen = block[bytes / 2];
    (void)seen;
  };
  constexpr size_t large = 200'000'000;
  hold(large);
  const PeakMemory quiet(at::kCPU);
  const int64_t before = quiet.bytes();
  if (before == 0) LONGTAKE_SKIP("this system does not tell a process's peak memory");
  hold(large);
  CHECK(quiet.bytes() >= before + static_cast<int64_t>(large) * 9 / 10);
  const PeakMemory after(at::kCPU);
  CHECK(after.bytes() < quiet.bytes() + static_cast<int64_t>(large) / 2);
}

TEST_CASE("the load of others is a share, and our own work is not in it") {
  const OtherLoad load;
  const auto start = std::chrono::steady_clock::now();
  double x = 1;
  while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(400)) x = x * 1.0000001 + 1e-9;
  CHECK(x > 0);
  const auto share = load.share();
  if (!share) LONGTAKE_SKIP("this system does not tell its CPU time");
  CHECK(*share >= 0);
  CHECK(*share <= 1);
}
