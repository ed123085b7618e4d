// SHA-256 (FIPS 180-4) of files, through libavutil.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace longtake {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void add(std::span<const uint8_t> bytes);
  void add(const std::string& text);

  // 64 lower-case hexadecimal digits; ends the sum.
  std::string hex();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// Error (bad_file) where the file cannot be read to its end.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace longtake
