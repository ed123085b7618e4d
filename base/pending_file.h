// Output files that appear whole or not at all: written as `<name>.part-<random>` in the same folder, then renamed.
//
// Errors: bad_file, one sentence with the path, what is wrong and what to do. A path that is a symbolic link is
// followed, so that the link stays one.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace longtake {

// Throws unless a regular file can be created or replaced at this path: the folder exists and takes new files, and the
// path is no folder or device. Leaves nothing behind. To be called before hours of work.
void check_writable(const std::filesystem::path& path);

// "cannot write out.mp4: No space left on device; free some space ...": the sentence for an errno while writing a file.
std::string write_error(const std::filesystem::path& path, int error_number);

class PendingFile {
 public:
  // Creates the empty temporary file.
  explicit PendingFile(const std::filesystem::path& path);
  // Removes the temporary file unless commit() has succeeded.
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  // Where to write.
  const std::filesystem::path& temporary() const { return temporary_; }

  // Flushes the file to the disk, renames it to its final name, and flushes the folder.
  void commit();

 private:
  std::filesystem::path shown_;  // as the user wrote it, for messages
  std::filesystem::path target_, temporary_;
  bool committed_ = false;
};

// The whole file at once.
void write_whole_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace longtake
