#include "runtime/work_queue.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

namespace longtake {

WorkQueue::WorkQueue(size_t capacity) : capacity_(capacity) {
  // Inference mode is a thread's own: the worker takes over its maker's.
  if (capacity_ > 0) thread_ = std::thread([this, inference = c10::InferenceMode::is_enabled()] { work(inference); });
}

WorkQueue::~WorkQueue() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    tasks_.clear();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

// The error stays: nothing runs behind a task that failed.
void WorkQueue::rethrow() {
  if (error_) std::rethrow_exception(error_);
}

void WorkQueue::post(std::function<void()> task) {
  if (capacity_ == 0) return task();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return tasks_.size() < capacity_ || error_; });
  rethrow();
  tasks_.push_back(std::move(task));
  changed_.notify_all();
}

void WorkQueue::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return (tasks_.empty() && !busy_) || error_; });
  rethrow();
}

void WorkQueue::work(bool inference) {
  at::init_num_threads();  // a new thread would else compute with the system's number of threads, not with the one that is set
  const c10::InferenceMode mode(inference);
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
    if (stopping_) return;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    busy_ = true;
    lock.unlock();
    std::exception_ptr error;
    try {
      task();
    } catch (...) {
      error = std::current_exception();
    }
    task = nullptr;  // what it holds is freed before others are told
    lock.lock();
    busy_ = false;
    if (error) {
      error_ = error;
      tasks_.clear();
      changed_.notify_all();
      return;
    }
    changed_.notify_all();
  }
}

}  // namespace longtake
