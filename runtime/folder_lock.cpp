#include "runtime/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"
#include "base/pending_file.h"

namespace longtake {

FolderLock::FolderLock(const std::filesystem::path& folder) {
  const auto path = folder / kFile;
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file_ < 0) throw Error(ExitCode::bad_file, write_error(path, errno));
  if (::flock(file_, LOCK_EX | LOCK_NB) == 0) return;
  const int error = errno;
  ::close(file_);
  if (error == EWOULDBLOCK)
    fail_file("{} is in use by another longtake; wait until it ends, or choose another --out", folder.string());
  // Some network file systems know no locks: then nothing guards against two programs, as before.
  file_ = -1;
}

FolderLock::~FolderLock() {
  if (file_ >= 0) ::close(file_);
}

}  // namespace longtake
