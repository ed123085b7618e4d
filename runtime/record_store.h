// A folder of named records, each a set of tensors that is there whole or not at all, whenever the program dies.
//
// NAME.safetensors holds the tensors; NAME.done, written after it, says how long it is and its CRC-32. Both are written
// under a temporary name, flushed and renamed, so a record without its marker does not count. Errors: bad_file with the
// path for what cannot be written (disk full, no permission), and for markers and data that are malformed, truncated,
// edited, or do not belong together.
//
// Threads may load records while another one saves others.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "cache/state.h"

namespace longtake {

class RecordStore {
 public:
  // An existing folder; reads which records there are, and no data yet.
  explicit RecordStore(std::filesystem::path folder);

  const std::filesystem::path& folder() const { return folder_; }
  std::set<std::string> names() const;
  bool contains(const std::string& name) const;

  // Replaces a record of that name.
  void save(const std::string& name, const State& state);
  // Checks length and CRC and copies the tensors out of the file.
  State load(const std::string& name) const;
  // Checks length and CRC alone.
  void check(const std::string& name) const;
  void erase(const std::string& name);

  // The record that a file of this name belongs to; "" for a file that is none of ours.
  static std::string record_of(const std::string& file);
  // What an interrupted writer may have left: temporary files that nobody will finish.
  static bool is_leftover(const std::string& file);

 private:
  std::filesystem::path data(const std::string& name) const { return folder_ / (name + ".safetensors"); }
  std::filesystem::path marker(const std::string& name) const { return folder_ / (name + ".done"); }

  std::filesystem::path folder_;
  mutable std::mutex mutex_;  // of the names
  std::set<std::string> names_;
};

// Writes a small file in one piece: temporary name, flush, rename.
void write_small_file(const std::filesystem::path& path, const std::string& text);
// The whole file; Error (bad_file) where it is missing or larger than a megabyte.
std::string read_small_file(const std::filesystem::path& path);

}  // namespace longtake
