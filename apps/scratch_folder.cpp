#include "apps/scratch_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/error.h"
#include "base/pending_file.h"

namespace longtake {

namespace fs = std::filesystem;

ScratchFolder::ScratchFolder(const fs::path& folder, const std::string& what) : folder_(folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail_file("{}: the folder cannot be created ({}); choose another place", folder.string(), error.message());
  const fs::path lock = folder / "lock";
  do {
    if (file_ >= 0) close(file_);
    fs::create_directories(folder, error);
    file_ = open(lock.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (file_ < 0) throw Error(ExitCode::bad_file, write_error(lock, errno));
    if (flock(file_, LOCK_EX | LOCK_NB) != 0) {
      const bool held = errno == EWOULDBLOCK;
      close(file_);
      if (held) fail_usage("another process works on {}; wait for it, or give each process its own --shard", what);
      throw Error(ExitCode::bad_file, write_error(lock, errno));
    }
    // Whoever held it may have removed it between the two calls.
  } while (!fs::exists(lock, error));
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path() != lock) fs::remove_all(entry.path(), error);
}

ScratchFolder::~ScratchFolder() {
  std::error_code error;
  fs::remove_all(folder_, error);
  fs::remove(folder_.parent_path(), error);  // fails, rightly, while other shards work there
  if (file_ >= 0) close(file_);
}

}  // namespace longtake
