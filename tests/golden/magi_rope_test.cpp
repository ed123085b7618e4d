// MAGI-1's rotary tables against the reference's.
#include "models/magi/rope.h"

#include "tests/golden/golden.h"

using namespace longtake;

TEST_CASE("MAGI-1's rotary tables are the reference's", "[golden]") {
  const auto root = golden::magi();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  for (const std::string set : {"base", "distill", "options"}) {
    const Checkpoint io = Checkpoint::open(root / set / "rope.safetensors");
    const at::Tensor bands = io.tensor("bands");
    int tables = 0;
    for (const std::string& name : io.names()) {
      int frames = 0, rows = 0, columns = 0, chunk = 0;
      if (std::sscanf(name.c_str(), "grid_T%d_h%d_w%d_chunk%d", &frames, &rows, &columns, &chunk) != 4) continue;
      // T counts the frames of the table, the first of which is the chunk's.
      at::Tensor table = magi::rope_table(bands, int64_t{6} * chunk, frames, rows, columns);
      if (name.ends_with("_last_frame")) table = table.narrow(0, (frames - 1) * rows * columns, rows * columns);
      CHECK(golden::within_norm(set + " " + name, table, io.tensor(name), 1e-6));
      ++tables;
    }
    CHECK(tables > 0);
  }
}
