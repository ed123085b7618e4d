// A folder that one process works in at a time.
#pragma once

#include <filesystem>
#include <string>

namespace longtake {

class ScratchFolder {
 public:
  // Creates the folder and empties it: what another process left there when it was killed. Throws (usage) where a living
  // process holds it; `what` names the work in the message.
  ScratchFolder(const std::filesystem::path& folder, const std::string& what);
  // Removes the folder, and the one above it where nothing else is in it.
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

 private:
  std::filesystem::path folder_;
  int file_ = -1;
};

}  // namespace longtake
