// A run's hooks that feed the progress line and the JSON log.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <fstream>
#include <mutex>
#include <string>

#include "runtime/generate_hooks.h"
#include "runtime/progress.h"
#include "runtime/run_layout.h"

namespace longtake {

// Events as JSON lines, flushed one by one so that others can follow; any thread may call. An empty path writes nothing.
class JsonLog {
 public:
  explicit JsonLog(const std::string& path);
  void event(const nlohmann::ordered_json& line);

 private:
  std::mutex mutex_;
  std::ofstream file_;
};

class RunProgress {
 public:
  // `title` stands in front of every line; "" for nothing.
  RunProgress(Progress& progress, JsonLog& log, RunLayout layout, std::string title = "");

  // Window, decision and row hooks; the caller adds its own for latents and frames.
  GenerateHooks hooks();

 private:
  void on_decision(const DecisionRecord& record);
  void on_row(int row);

  Progress& progress_;
  JsonLog& log_;
  const RunLayout layout_;
  std::string title_;
  int window_ = 0, step_ = 0, first_chunk_ = 0, last_chunk_ = 0;
  int64_t row_tokens_ = 0, row_recomputed_ = 0, all_tokens_ = 0, all_recomputed_ = 0;
};

}  // namespace longtake
