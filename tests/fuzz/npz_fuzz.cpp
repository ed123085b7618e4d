// Input: an .npz archive, or one bare .npy array, which is then wrapped. Anything but a clean read or an Error is a bug.
#include "models/weights/npz.h"

#include "base/error.h"
#include "tests/fuzz/touch_tensors.h"
#include "tests/models/weights_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  std::vector<uint8_t> bytes(data, data + size);
  if (size < 2 || data[0] != 'P' || data[1] != 'K') bytes = test::zip_bytes({{"a.npy", std::string(data, data + size)}});
  try {
    fuzz::touch_tensors(NpzFile::from_bytes(std::move(bytes), "fuzz.npz"));
  } catch (const Error&) {
  }
  return 0;
}
