// Input: a torch.save archive, or the bare pickle program of one, which is then wrapped with two storages of 16 bytes.
// Anything but a clean read or an Error is a bug.
#include "models/weights/pickle.h"

#include "base/error.h"
#include "tests/fuzz/touch_tensors.h"
#include "tests/models/weights_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longtake;
  std::vector<uint8_t> bytes(data, data + size);
  if (size < 2 || data[0] != 'P' || data[1] != 'K') {
    bytes = test::zip_bytes({{"x/data.pkl", std::string(data, data + size)},
                             {"x/data/0", std::string(16, '\1')},
                             {"x/data/1", std::string(16, '\0')}});
  }
  try {
    fuzz::touch_tensors(TorchFile::from_bytes(std::move(bytes), "fuzz.pth"));
  } catch (const Error&) {
  }
  return 0;
}
