// The entries of a zip archive in memory: where each one's bytes lie. Only what torch.save and numpy.savez write is understood: stored
// (uncompressed), unencrypted entries, with or without zip64. Checksums are not verified: that would read the whole
// file.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

namespace longtake {

struct ZipEntry {
  uint64_t offset = 0;  // of the data, from the start of the archive
  uint64_t bytes = 0;
};

// Entry name -> place. Throws Error (bad_file) beginning with `what` where the archive is damaged, truncated,
// compressed or encrypted; every returned range lies within `bytes`.
std::map<std::string, ZipEntry> read_zip_index(std::span<const uint8_t> bytes, const std::string& what);

}  // namespace longtake
