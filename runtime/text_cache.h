// Encoded texts that outlive the program: a text encoder of 11 GB need not be loaded for a prompt that was encoded before.
//
// A folder with one file a text, named by a hash. Each says which text, which encoder (files, precision, device, whatever changes bits) and which
// CRC-32 its values have, and is used only where all of it agrees; anything else in its place is ignored with a message and written anew.
// The folder is bounded: the entries that were used longest ago go first. Programs may share it.
//
// Nothing here is an error: a cache that cannot be read or written is said so once and does without.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "runtime/model.h"

namespace longtake {

class TextCache {
 public:
  static constexpr int64_t kMaxBytes = int64_t{256} << 20;

  // `encoder`: everything besides the text that the encoding depends on. The folder is made with the first entry.
  TextCache(std::filesystem::path folder, std::string encoder, std::function<void(const std::string&)> on_note, int64_t max_bytes = kMaxBytes);

  // texts/ in the user's cache folder: $XDG_CACHE_HOME/longtake or ~/.cache/longtake; nothing where there is no home.
  static std::optional<std::filesystem::path> default_folder();

  // In the user's cache folder, of the model's text encoder on `device`; `form` says how texts are encoded. Nothing where there is no home.
  static std::optional<TextCache> of_model(const ModelFiles& files, const std::string& form, const at::Device& device,
                                           std::function<void(const std::string&)> on_note);

  // The encoding [rows, dim] in `dtype`, in host memory; without `rows` it has a row for each token that counts.
  std::optional<EncodedText> find(const std::string& text, std::optional<int64_t> rows, at::ScalarType dtype) const;
  void store(const std::string& text, const EncodedText& encoded);

 private:
  std::filesystem::path file_of(const std::string& text) const;
  void note(const std::string& text) const;
  void make_room() const;

  std::filesystem::path folder_;
  std::string encoder_;
  std::function<void(const std::string&)> on_note_;
  int64_t max_bytes_;
  mutable bool noted_ = false;
};

}  // namespace longtake
