// Tasks that one background thread runs in the order in which they came.
//
// At most `capacity` tasks wait; post() blocks while that many do, so that the poster cannot run away from the worker.
// With capacity 0 there is no thread and post() runs the task itself: the same order, hence the same results. The first
// exception stops the worker: tasks behind it are dropped, and the next post() or wait() throws it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace longtake {

class WorkQueue {
 public:
  explicit WorkQueue(size_t capacity);
  // Finishes the task that runs and drops the others.
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  void post(std::function<void()> task);
  // Until all tasks are done.
  void wait();

 private:
  void work(bool inference);
  void rethrow();

  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool busy_ = false, stopping_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace longtake
