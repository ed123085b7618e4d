// NumPy arrays and archives made by hand, as numpy.save and numpy.savez write them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <string>

#include "tests/models/weights_files.h"

namespace longtake::test {

inline std::string npy_header(const std::string& header, int version = 1) {
  const int bytes = version == 1 ? 2 : 4;
  std::string out = "\x93NUMPY";
  out += static_cast<char>(version);
  out += '\0';
  const std::string text = header + "\n";
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(text.size() >> (8 * i));
  return out + text;
}

inline std::string npy(const at::Tensor& given, int version = 1) {
  const at::Tensor x = given.contiguous();
  const std::map<at::ScalarType, std::string> names{{at::kDouble, "<f8"}, {at::kFloat, "<f4"}, {at::kHalf, "<f2"},
                                                    {at::kLong, "<i8"},   {at::kInt, "<i4"},   {at::kShort, "<i2"},
                                                    {at::kChar, "|i1"},   {at::kByte, "|u1"},  {at::kBool, "|b1"}};
  const std::string sizes = fmt::format("{}{}", fmt::join(x.sizes(), ", "), x.dim() == 1 ? "," : "");
  const std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", names.at(x.scalar_type()), sizes);
  return npy_header(header, version) + std::string(static_cast<const char*>(x.const_data_ptr()), x.nbytes());
}

inline void save_npz(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& arrays) {
  std::vector<ZipItem> items;
  for (const auto& [name, array] : arrays) items.push_back({name + ".npy", npy(array)});
  const std::vector<uint8_t> bytes = zip_bytes(items);
  write_file(path, std::string(bytes.begin(), bytes.end()));
}

// Rows that all differ, float64.
inline at::Tensor special_rows(int64_t rows, int64_t width, double scale) {
  return at::arange(rows * width, at::TensorOptions().dtype(at::kDouble)).view({rows, width}).add(1).mul(scale / 10);
}

}  // namespace longtake::test
