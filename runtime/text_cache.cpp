#include "runtime/text_cache.h"

#include <ATen/Parallel.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "models/weights/safetensors.h"
#include "runtime/run_record.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "1";

// FNV-1a, 64 bits.
uint64_t hash_of(const std::string& text) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  return hash;
}

// Of all that an entry gives back.
std::string crc_of(const at::Tensor& context, const std::string& tokens, const std::string& truncated) {
  const at::Tensor whole = context.contiguous();
  const std::string rest = tokens + ' ' + truncated;
  const uLong crc = crc32_z(crc32_z(0, nullptr, 0), static_cast<const uint8_t*>(whole.const_data_ptr()), whole.nbytes());
  return fmt::format("{:08x}", crc32_z(crc, reinterpret_cast<const uint8_t*>(rest.data()), rest.size()));
}

// "0123456789abcdef.safetensors", or what a writer of one left.
bool is_ours(const fs::path& file) {
  const std::string name = file.filename().string();
  return name.size() >= 28 && name.find_first_not_of("0123456789abcdef") == 16 && name.substr(16, 12) == ".safetensors";
}

}  // namespace

TextCache::TextCache(fs::path folder, std::string encoder, std::function<void(const std::string&)> on_note, int64_t max_bytes)
    : folder_(std::move(folder)), encoder_(std::move(encoder)), on_note_(std::move(on_note)), max_bytes_(max_bytes) {}

std::optional<fs::path> TextCache::default_folder() {
  const auto absolute = [](const char* value) { return value != nullptr && value[0] == '/'; };  // as the XDG specification wants it
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); absolute(cache)) return fs::path(cache) / "longtake" / "texts";
  if (const char* home = std::getenv("HOME"); absolute(home)) return fs::path(home) / ".cache" / "longtake" / "texts";
  return std::nullopt;
}

std::optional<TextCache> TextCache::of_model(const ModelFiles& files, const std::string& form, const at::Device& device,
                                             std::function<void(const std::string&)> on_note) {
  const auto folder = default_folder();
  if (!folder) return std::nullopt;
  // The number of threads changes the last bits on a CPU.
  const std::string threads = device.is_cpu() ? fmt::format(", {} threads", at::get_num_threads()) : "";
  return TextCache(*folder, fmt::format("{}; {} on {}{}", text_encoder_fingerprint(files), form, c10::DeviceTypeName(device.type(), true), threads),
                   std::move(on_note));
}

fs::path TextCache::file_of(const std::string& text) const {
  return folder_ / fmt::format("{:016x}.safetensors", hash_of(encoder_ + '\n' + text));
}

void TextCache::note(const std::string& text) const {
  if (!noted_ && on_note_) on_note_(text);
  noted_ = true;
}

std::optional<EncodedText> TextCache::find(const std::string& text, std::optional<int64_t> rows, at::ScalarType dtype) const {
  const fs::path file = file_of(text);
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return std::nullopt;
  try {
    const SafetensorsFile stored(file);
    const auto& about = stored.metadata();
    const auto says = [&](const char* key, const std::string& value) {
      const auto found = about.find(key);
      return found != about.end() && found->second == value;
    };
    if (!says("format", kFormat) || !says("text", text) || !says("encoder", encoder_)) return std::nullopt;  // another text's
    const at::Tensor context = stored.tensor("context");
    if (context.dim() != 2 || context.scalar_type() != dtype || !says("crc", crc_of(context, about.at("tokens"), about.at("truncated"))))
      fail_file("its values are not those that were written");
    EncodedText encoded;
    encoded.context = context.clone();
    encoded.tokens = std::stoll(about.at("tokens"));
    if (context.size(0) != rows.value_or(encoded.tokens)) fail_file("it has another number of rows than was written");
    encoded.truncated = about.at("truncated") == "true";
    fs::last_write_time(file, fs::file_time_type::clock::now(), error);
    return encoded;
  } catch (const std::exception& problem) {
    note(fmt::format("the encoded prompt in {} is ignored and made again ({})", file.string(), problem.what()));
    return std::nullopt;
  }
}

void TextCache::store(const std::string& text, const EncodedText& encoded) {
  try {
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) fail_file("{} cannot be made: {}", folder_.string(), error.message());
    const at::Tensor context = encoded.context.cpu().contiguous();
    if (static_cast<int64_t>(context.nbytes()) > max_bytes_) return;
    const std::string tokens = std::to_string(encoded.tokens), truncated = encoded.truncated ? "true" : "false";
    save_safetensors(file_of(text), {{"context", context}},
                     {{"format", kFormat},
                      {"text", text},
                      {"encoder", encoder_},
                      {"crc", crc_of(context, tokens, truncated)},
                      {"tokens", tokens},
                      {"truncated", truncated}});
    make_room();
  } catch (const std::exception& problem) {
    note(fmt::format("encoded prompts are not kept ({}); --text-cache off does not try", problem.what()));
  }
}

void TextCache::make_room() const {
  struct Entry {
    fs::path file;
    fs::file_time_type used;
    int64_t bytes;
  };
  std::vector<Entry> entries;
  int64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    if (!is_ours(entry.path()) || !entry.is_regular_file(error)) continue;
    entries.push_back({entry.path(), entry.last_write_time(error), static_cast<int64_t>(entry.file_size(error))});
    bytes += entries.back().bytes;
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (const Entry& entry : entries) {
    if (bytes <= max_bytes_) return;
    fs::remove(entry.file, error);
    bytes -= entry.bytes;
  }
}

}  // namespace longtake
