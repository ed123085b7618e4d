// Input: a .safetensors file. Anything but a clean read or an Error is a bug.
#include "models/weights/safetensors.h"

#include "base/error.h"
#include "tests/fuzz/touch_tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    longtake::fuzz::touch_tensors(longtake::SafetensorsFile::from_bytes({data, data + size}, "fuzz.safetensors"));
  } catch (const longtake::Error&) {
  }
  return 0;
}
