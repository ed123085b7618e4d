// Many videos with few loads: what `batch` and `vbench run` share.
#pragma once

#include <string>
#include <vector>

#include "runtime/batch_folder.h"

namespace longtake {

struct BatchRun {
  BatchFolder folder;
  std::vector<BatchJob> jobs;  // of all shards, checked (check_job)
  Shard shard = {};
  bool remake = false;         // make videos anew that are there with other settings
  bool dry_run = false;        // only say what is done and what is left
  int limit = 0;               // at most so many new videos; 0 for all
  int threads = 0;
  std::string json_log = {};
};

// Makes this shard's videos, one model after the other, skipping those that are done. A failure is written down and does not
// stop the others, except where the folder cannot be written. Before anything is made: an Error (usage) where videos are there
// that were made otherwise, unless `remake`. At the end an Error (partial) where some failed.
void run_batch(const BatchRun& run);

// Prints what all shards have done; an Error (partial) unless everything is.
void print_batch_status(const BatchFolder& folder, bool as_json);

}  // namespace longtake
