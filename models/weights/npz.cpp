#include "models/weights/npz.h"

#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/utf8.h"
#include "models/weights/zip_index.h"

namespace longtake {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr uint64_t kLongestHeader = 1 << 16;  // NumPy itself refuses headers beyond 10000 bytes
constexpr size_t kMostSizes = 64;

std::optional<at::ScalarType> dtype_of(std::string_view descr) {
  constexpr std::array<std::pair<std::string_view, at::ScalarType>, 9> table{{{"<f8", at::kDouble},
                                                                              {"<f4", at::kFloat},
                                                                              {"<f2", at::kHalf},
                                                                              {"<i8", at::kLong},
                                                                              {"<i4", at::kInt},
                                                                              {"<i2", at::kShort},
                                                                              {"|i1", at::kChar},
                                                                              {"|u1", at::kByte},
                                                                              {"|b1", at::kBool}}};
  for (const auto& [known, dtype] : table)
    if (known == descr) return dtype;
  return std::nullopt;
}

// The little of Python's syntax that a header is written in.
class Literal {
 public:
  Literal(std::string_view text, const std::string& what) : rest_(text), what_(what) {}

  [[noreturn]] void damaged(const std::string& why) const {
    fail_file("{}: its header is not one of a NumPy array ({}); save it again with numpy.savez", what_, why);
  }

  bool accept(char wanted) {
    skip_spaces();
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char wanted) {
    if (!accept(wanted)) damaged(fmt::format("expected '{}' at '{}'", wanted, printable(rest_.substr(0, 20))));
  }
  std::string_view text() {
    const char quote = accept('\'') ? '\'' : '"';
    if (quote == '"') expect('"');
    const size_t end = rest_.find(quote);
    if (end == std::string_view::npos) damaged("a text without an end");
    const std::string_view value = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return value;
  }
  bool flag() {
    skip_spaces();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}})
      if (rest_.starts_with(word)) {
        rest_.remove_prefix(word.size());
        return value;
      }
    damaged("expected True or False");
  }
  std::vector<int64_t> sizes() {
    std::vector<int64_t> out;
    expect('(');
    while (!accept(')')) {
      if (out.size() == kMostSizes) damaged("too many dimensions");
      out.push_back(size());
      if (!accept(',')) {
        // One size in brackets is a number to Python, and none of NumPy's headers.
        if (out.size() == 1) damaged("a shape that is a single number");
        expect(')');
        break;
      }
    }
    return out;
  }
  void finish() {
    skip_spaces();
    if (!rest_.empty()) damaged("something follows it");
  }

 private:
  void skip_spaces() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n')) rest_.remove_prefix(1);
  }
  int64_t size() {
    skip_spaces();
    int64_t value = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc() || value < 0) damaged("a size that is no whole number");
    rest_.remove_prefix(end - rest_.data());
    accept('L');  // NumPy under Python 2
    return value;
  }

  std::string_view rest_;
  const std::string& what_;
};

NpyHeader parse_header(std::string_view text, const std::string& what) {
  Literal literal(text, what);
  std::optional<std::string_view> descr;
  std::optional<bool> fortran;
  std::optional<std::vector<int64_t>> shape;
  literal.expect('{');
  while (!literal.accept('}')) {
    const std::string_view key = literal.text();
    literal.expect(':');
    if (key == "descr" && !descr)
      descr = literal.text();
    else if (key == "fortran_order" && !fortran)
      fortran = literal.flag();
    else if (key == "shape" && !shape)
      shape = literal.sizes();
    else
      literal.damaged(fmt::format("the key '{}'", printable(key)));
    if (!literal.accept(',')) {
      literal.expect('}');
      break;
    }
  }
  literal.finish();
  if (!descr || !fortran || !shape) literal.damaged("it lacks one of descr, fortran_order and shape");
  const auto dtype = dtype_of(*descr);
  if (!dtype)
    fail_file("{}: holds elements of the type '{}', which cannot be read here; save it as float32 or float64", what, printable(*descr));
  if (*fortran && shape->size() > 1)
    fail_file("{}: is stored column by column (fortran_order); save a copy made with numpy.ascontiguousarray", what);
  return {*dtype, *shape};
}

}  // namespace

NpyHeader read_npy_header(std::span<const uint8_t> bytes, const std::string& what) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kMagic) || text.size() < kMagic.size() + 4) fail_file("{}: is no NumPy array", what);
  const uint8_t version = bytes[kMagic.size()];
  if (version < 1 || version > 3) fail_file("{}: is written in version {} of NumPy's format; known are 1 to 3", what, version);
  const size_t length_bytes = version == 1 ? 2 : 4, begin = kMagic.size() + 2 + length_bytes;
  if (text.size() < begin) fail_file("{}: ends within its header; incomplete download?", what);
  uint64_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i) length |= static_cast<uint64_t>(bytes[kMagic.size() + 2 + i]) << (8 * i);
  if (length > kLongestHeader || length > text.size() - begin)
    fail_file("{}: claims a header of {} bytes; the file is damaged", what, length);
  NpyHeader header = parse_header(text.substr(begin, length), what);
  header.data = begin + length;
  const auto size = checked_bytes(header.shape, header.dtype);
  if (!size || *size != text.size() - header.data)
    fail_file("{}: holds {} bytes of elements, which do not make up its shape {}; incomplete download?", what, text.size() - header.data,
              shape_text(header.shape));
  return header;
}

NpzFile::NpzFile(const std::filesystem::path& path) : NpzFile(MappedFile::open(path)) {}

NpzFile NpzFile::from_bytes(std::vector<uint8_t> bytes, std::filesystem::path path) {
  return NpzFile(MappedFile::from_bytes(std::move(bytes), std::move(path)));
}

NpzFile::NpzFile(std::shared_ptr<const MappedFile> file) : TensorFile(file->path()), file_(std::move(file)) {
  const std::string path = path_.string();
  const auto bytes = file_->bytes();
  if (bytes.size() < 4 || std::memcmp(bytes.data(), "PK", 2) != 0)
    fail_file("{}: is no .npz file, a zip archive of NumPy arrays{}", path, file_->guess());
  for (const auto& [entry, place] : read_zip_index(bytes, path)) {
    if (!entry.ends_with(".npy")) fail_file("{}: holds '{}', which is no NumPy array (.npy)", path, printable(entry));
    const std::string name = entry.substr(0, entry.size() - 4);
    const std::string what = fmt::format("{}: array '{}'", path, printable(name));
    NpyHeader header = read_npy_header(bytes.subspan(place.offset, place.bytes), what);
    const uint64_t begin = place.offset + header.data;
    add({name, header.dtype, std::move(header.shape), begin, place.bytes - header.data});
  }
  if (tensors_.empty()) fail_file("{}: holds no arrays", path);
}

at::Tensor NpzFile::view(size_t index) const {
  const TensorInfo& info = tensors_[index];
  return view_of(file_, info.offset, info.dtype, info.shape, contiguous_strides(info.shape));
}

}  // namespace longtake
