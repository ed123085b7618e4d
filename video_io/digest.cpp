#include "video_io/digest.h"

#include "base/error.h"
#include "video_io/av.h"

extern "C" {
#include <libavutil/mem.h>
#include <libavutil/sha.h>
}

#include <fstream>
#include <vector>

namespace longtake {

struct Sha256::Context {
  struct Free {
    void operator()(AVSHA* sha) const { av_free(sha); }
  };
  std::unique_ptr<AVSHA, Free> sha{av_allocated(av_sha_alloc())};
};

Sha256::Sha256() : context_(std::make_unique<Context>()) { av_sha_init(context_->sha.get(), 256); }
Sha256::~Sha256() = default;

void Sha256::add(std::span<const uint8_t> bytes) { av_sha_update(context_->sha.get(), bytes.data(), bytes.size()); }

void Sha256::add(const std::string& text) { add({reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }

std::string Sha256::hex() {
  uint8_t digest[32];
  av_sha_final(context_->sha.get(), digest);
  std::string text;
  for (const uint8_t byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

std::string sha256_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_file("{}: cannot be read", path.string());
  Sha256 sha;
  std::vector<char> block(1 << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0)
    sha.add({reinterpret_cast<const uint8_t*>(block.data()), static_cast<size_t>(file.gcount())});
  if (!file.eof()) fail_file("{}: cannot be read to its end", path.string());
  return sha.hex();
}

}  // namespace longtake
