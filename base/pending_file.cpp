#include "base/pending_file.h"

#include "base/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <random>

namespace longtake {
namespace {

namespace fs = std::filesystem;

fs::path follow_link(const fs::path& path) {
  std::error_code error;
  if (!fs::is_symlink(path, error)) return path;
  const fs::path target = fs::canonical(path, error);
  return error ? path : target;
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

void check_kind(const fs::path& shown, const fs::path& target) {
  if (!target.has_filename()) fail_file("cannot write \"{}\": it names no file; add a file name", shown.string());
  std::error_code error;
  const fs::path folder = folder_of(target);
  const fs::file_status folder_status = fs::status(folder, error);
  if (folder_status.type() == fs::file_type::none) throw Error(ExitCode::bad_file, write_error(shown, error.value()));
  if (!fs::exists(folder_status))
    fail_file("cannot write {}: the folder {} does not exist; create it or choose another", shown.string(),
              folder.string());
  if (!fs::is_directory(folder_status))
    fail_file("cannot write {}: {} is not a folder; choose another output path", shown.string(), folder.string());
  const fs::file_status status = fs::status(target, error);
  if (fs::is_directory(status))
    fail_file("cannot write {}: it is a folder; add a file name to the output path", shown.string());
  if (fs::exists(status) && !fs::is_regular_file(status))
    fail_file("cannot write {}: it exists and is not a regular file; choose another output path", shown.string());
}

fs::path create_beside(const fs::path& shown, const fs::path& target) {
  std::random_device random;
  for (int attempt = 0; attempt < 100; ++attempt) {
    const fs::path candidate =
        folder_of(target) / fmt::format("{}.part-{:08x}", target.filename().string(), static_cast<uint32_t>(random()));
    const int file = open(candidate.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    if (file >= 0) {
      close(file);
      return candidate;
    }
    if (errno != EEXIST) throw Error(ExitCode::bad_file, write_error(shown, errno));
  }
  throw Error(ExitCode::bad_file, write_error(shown, EEXIST));
}

// fsync by name; works for files and folders. Zero or an errno.
int flush_to_disk(const fs::path& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno;
  const int error = fsync(file) == 0 ? 0 : errno;
  close(file);
  return error;
}

}  // namespace

std::string write_error(const std::filesystem::path& path, int error_number) {
  const char* advice = "choose another output path";
  if (error_number == ENOSPC || error_number == EDQUOT) advice = "free some space or choose another disk";
  if (error_number == EFBIG) advice = "raise the file size limit (ulimit -f) or choose another disk";
  if (error_number == EACCES || error_number == EPERM) advice = "change the folder's permissions or choose another";
  if (error_number == ENAMETOOLONG) advice = "choose a shorter name (about 240 bytes at most)";
  return fmt::format("cannot write {}: {}; {}", path.string(), std::generic_category().message(error_number), advice);
}

void check_writable(const std::filesystem::path& path) { PendingFile probe(path); }

PendingFile::PendingFile(const std::filesystem::path& path) : shown_(path), target_(follow_link(path)) {
  check_kind(shown_, target_);
  temporary_ = create_beside(shown_, target_);
}

PendingFile::~PendingFile() {
  std::error_code error;
  if (!committed_) fs::remove(temporary_, error);
}

void PendingFile::commit() {
  LONGTAKE_CHECK(!committed_, "{} is already in place", shown_.string());
  if (const int error = flush_to_disk(temporary_)) throw Error(ExitCode::bad_file, write_error(shown_, error));
  // The target may have become a folder since the start.
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) throw Error(ExitCode::bad_file, write_error(shown_, errno));
  committed_ = true;
  // Some file systems refuse fsync on folders; the rename is atomic all the same.
  flush_to_disk(folder_of(target_));
}

void write_whole_file(const std::filesystem::path& path, std::string_view bytes) {
  PendingFile pending(path);
  std::ofstream file(pending.temporary(), std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw Error(ExitCode::bad_file, write_error(path, errno));
  pending.commit();
}

}  // namespace longtake
