// Drawing clips on several threads. (at::parallel_for is serial in code that is compiled without OpenMP, as ours is.)
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace longtake::train {

// body(i) once for each i in [0, count), in any order. The body must not throw.
template <class Body>
void on_threads(int threads, int64_t count, const Body& body) {
  std::atomic<int64_t> next = 0;
  const auto work = [&] {
    for (int64_t i; (i = next++) < count;) body(i);
  };
  std::vector<std::jthread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work);
  work();
}

}  // namespace longtake::train
