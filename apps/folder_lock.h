// A folder that one process works in at a time.
#pragma once

#include <filesystem>
#include <string>

namespace longtake {

class FolderLock {
 public:
  // Creates the folder and empties it: what another process left there when it was killed. Throws (usage) where a living
  // process holds it; `what` names the work in the message.
  FolderLock(const std::filesystem::path& folder, const std::string& what);
  // Removes the folder, and the one above it where nothing else is in it.
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  std::filesystem::path folder_;
  int file_ = -1;
};

}  // namespace longtake
