// One program at a time in a folder: an advisory lock on a file in it, which the system lets go when its holder dies.
#pragma once

#include <filesystem>

namespace longtake {

class FolderLock {
 public:
  static constexpr const char* kFile = "lock";

  // Error (bad_file) where another program holds it or the file cannot be made.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int file_ = -1;
};

}  // namespace longtake
