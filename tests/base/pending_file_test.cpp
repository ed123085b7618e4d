#include "base/pending_file.h"

#include "base/error.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

#include <unistd.h>

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string writing_error(const std::filesystem::path& path) {
  try {
    check_writable(path);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::bad_file);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("outputs that cannot be written are named before the work starts") {
  const TemporaryFolder folder;
  CHECK(writing_error(folder / "out.mp4").empty());
  CHECK(folder.names().empty());
  CHECK_THAT(writing_error(folder / "missing/out.mp4"), ContainsSubstring("missing does not exist; create it"));
  CHECK_THAT(writing_error(folder.path()), ContainsSubstring("it is a folder"));
  CHECK_THAT(writing_error(folder / "out/"), ContainsSubstring("it names no file"));
  CHECK_THAT(writing_error(""), ContainsSubstring("it names no file"));
  CHECK_THAT(writing_error("/dev/null"), ContainsSubstring("not a regular file"));
  CHECK_THAT(writing_error(folder / std::string(250, 'x')), ContainsSubstring("choose a shorter name"));
  write_bytes(folder / "file", "");
  CHECK_THAT(writing_error(folder / "file/out.mp4"), ContainsSubstring("file is not a folder"));
  CHECK(folder.names() == std::vector<std::string>{"file"});
}

TEST_CASE("a folder without write permission is refused") {
  using std::filesystem::perms;
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "closed");
  std::filesystem::permissions(folder.path(), perms::owner_all | perms::others_read | perms::others_exec);
  std::filesystem::permissions(folder / "closed", perms::owner_all);
  // Root may write everywhere, so it becomes nobody for a moment.
  const uid_t user = geteuid();
  if (user != 0)
    std::filesystem::permissions(folder / "closed", perms::none);
  else
    REQUIRE(seteuid(65534) == 0);
  const std::string direct = writing_error(folder / (user == 0 ? "out.mp4" : "closed/out.mp4"));
  const std::string below = writing_error(folder / "closed/below/out.mp4");
  REQUIRE(seteuid(user) == 0);
  std::filesystem::permissions(folder / "closed", perms::owner_all);
  CHECK_THAT(direct, ContainsSubstring("Permission denied; change the folder's permissions"));
  CHECK_THAT(below, ContainsSubstring("Permission denied; change the folder's permissions"));
}

TEST_CASE("a pending file replaces its target at once, through links too") {
  const TemporaryFolder folder;
  const auto target = folder / "out.txt", link = folder / "link.txt";
  write_bytes(target, "old");
  std::filesystem::create_symlink("out.txt", link);
  {
    const PendingFile left(link);
    write_bytes(left.temporary(), "half");
  }
  CHECK(read_bytes(target) == "old");
  PendingFile file(link);
  CHECK(file.temporary().parent_path() == target.parent_path());
  write_bytes(file.temporary(), "new");
  CHECK(read_bytes(target) == "old");
  file.commit();
  CHECK(read_bytes(target) == "new");
  CHECK(std::filesystem::is_symlink(link));
  CHECK(folder.names().size() == 2);
}
