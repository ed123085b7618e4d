#include "runtime/work_queue.h"

#include <c10/core/InferenceMode.h>

#include <atomic>
#include <chrono>
#include <vector>

#include "base/error.h"
#include "tests/catch.h"

using namespace longtake;

TEST_CASE("tasks run in order, in a thread or in place") {
  const size_t capacity = GENERATE(size_t{0}, size_t{1}, size_t{8});
  std::vector<int> done;
  {
    WorkQueue queue(capacity);
    for (int i = 0; i < 100; ++i) queue.post([&done, i] { done.push_back(i); });
    queue.wait();
    CHECK(done.size() == 100);
    queue.post([&] { done.push_back(100); });
    queue.wait();
  }
  for (int i = 0; i <= 100; ++i) CHECK(done[i] == i);
}

TEST_CASE("no more tasks wait than the capacity") {
  WorkQueue queue(2);
  std::atomic<int> posted = 0, done = 0, most = 0;
  for (int i = 0; i < 50; ++i) {
    queue.post([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      ++done;
    });
    ++posted;
    most = std::max(most.load(), posted - done);
  }
  queue.wait();
  CHECK(done == 50);
  CHECK(most <= 4);  // two that wait, one that runs, one that is done but not counted yet
}

TEST_CASE("the first error stops the worker and reaches the poster") {
  WorkQueue queue(4);
  std::atomic<bool> ran = false;
  queue.post([] { fail(ExitCode::numerical, "broken"); });
  CHECK_THROWS_WITH(queue.wait(), "broken");
  CHECK_THROWS_WITH(queue.post([&] { ran = true; }), "broken");
  CHECK_THROWS_WITH(queue.wait(), "broken");
  CHECK_FALSE(ran);
}

TEST_CASE("a queue that goes away drops what waits") {
  std::atomic<int> done = 0;
  {
    WorkQueue queue(100);
    for (int i = 0; i < 100; ++i)
      queue.post([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        ++done;
      });
  }
  CHECK(done < 100);
}

TEST_CASE("the worker computes in its maker's mode") {
  for (const bool inference : {false, true}) {
    const c10::InferenceMode mode(inference);
    WorkQueue queue(1);
    bool seen = !inference;
    queue.post([&] { seen = c10::InferenceMode::is_enabled(); });
    queue.wait();
    CHECK(seen == inference);
  }
}
