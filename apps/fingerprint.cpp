#include "apps/fingerprint.h"

#include <algorithm>
#include <fstream>
#include <vector>

#include "base/error.h"
#include "video_io/digest.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSampleBytes = 64 << 10;
constexpr uint64_t kGaps = 16;

void add_file(Sha256& sha, const fs::path& path) {
  const uint64_t size = fs::file_size(path);
  sha.add(fmt::format("{} {}\n", path.filename().string(), size));
  std::ifstream file(path, std::ios::binary);
  std::vector<char> block(kSampleBytes);
  const uint64_t last = size > kSampleBytes ? size - kSampleBytes : 0;
  for (uint64_t sample = 0; sample <= kGaps; ++sample) {
    file.seekg(static_cast<std::streamoff>(last / kGaps * sample + last % kGaps * sample / kGaps));
    file.read(block.data(), static_cast<std::streamsize>(std::min(size, kSampleBytes)));
    if (!file) fail_file("{}: cannot be read", path.string());
    sha.add({reinterpret_cast<const uint8_t*>(block.data()), static_cast<size_t>(file.gcount())});
    if (last == 0) break;
  }
}

}  // namespace

std::string weights_fingerprint(const ModelFiles& files) {
  Sha256 sha;
  for (const fs::path& part : {files.transformer, files.vae, files.text_encoder, files.tokenizer}) {
    if (part.empty()) continue;
    std::vector<fs::path> paths;
    if (fs::is_directory(part)) {
      for (const auto& entry : fs::directory_iterator(part))
        if (entry.is_regular_file()) paths.push_back(entry.path());
      std::sort(paths.begin(), paths.end());
    } else {
      paths.push_back(part);
    }
    for (const fs::path& path : paths) add_file(sha, path);
  }
  return sha.hex();
}

}  // namespace longtake
