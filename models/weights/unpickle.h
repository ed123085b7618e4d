// Reads the pickle of a state dict without running anything: a small machine that knows containers, numbers, texts and
// the few calls that torch.save writes for tensors. Every other callable is refused by its name, every unknown opcode
// by its number.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace longtake {

// A value of the pickle. Containers refer to their items by index into Pickle::values, so that a pickle that contains
// itself is harmless.
struct PickleValue {
  enum class Kind { none, boolean, integer, real, text, tuple, list, dict, global, storage, tensor };
  Kind kind = Kind::none;
  int64_t integer = 0;               // boolean, integer
  double real = 0;                   // real
  std::string_view text = {};        // text; global: module
  std::string_view name = {};        // global: name within the module
  std::vector<uint32_t> items = {};  // tuple, list; dict: key, value, key, value, ...
                                     // storage: type (global), key (text), elements (integer)
                                     // tensor: storage, offset (integer), sizes (tuple), strides (tuple)
};

struct Pickle {
  std::deque<PickleValue> values;
  uint32_t root = 0;

  const PickleValue& operator[](uint32_t index) const { return values[index]; }
};

// The views in the result point into `bytes`. Throws Error (bad_file) beginning with `what`.
Pickle read_pickle(std::span<const uint8_t> bytes, const std::string& what);

}  // namespace longtake
