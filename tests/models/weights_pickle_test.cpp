// tests/data/pickle was written once with torch.save (PyTorch 2.11); the values are counted up from 0 so that they can
// be checked here. malicious.pth would run a shell command if anything ran it; hand-made programs cover what torch.save
// never writes.
#include "models/weights/pickle.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include "base/error.h"
#include "models/weights/checkpoint.h"
#include "tests/catch.h"
#include "tests/models/weights_files.h"

using namespace longtake;
using namespace std::string_literals;
using Catch::Matchers::ContainsSubstring;
using test::zip_bytes;
using test::ZipItem;

namespace {

std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(LONGTAKE_SOURCE_DIR) / "tests/data/pickle" / name;
}

at::Tensor count(std::vector<int64_t> shape, int64_t start = 0) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return at::arange(start, start + n).to(at::kFloat).view(shape);
}

std::string text(const std::string& value) { return std::string("\x8c") + static_cast<char>(value.size()) + value; }
std::string number(int value) { return std::string("K") + static_cast<char>(value); }
const std::string storage_global = "ctorch\nFloatStorage\n";
const std::string rebuild_global = "ctorch._utils\n_rebuild_tensor_v2\n";

// A tensor over storage '0'; each part can be replaced by something hostile.
std::string tensor_program(const std::string& sizes, const std::string& strides, const std::string& offset = number(0),
                           const std::string& elements = number(4), const std::string& type = storage_global,
                           const std::string& key = text("0")) {
  return rebuild_global + "((" + text("storage") + type + key + text("cpu") + elements + "tQ" + offset + sizes +
         strides + "\x89" + ")tR";
}
std::string tuple2(int a, int b) { return number(a) + number(b) + "\x86"; }
std::string tuple1(int a) { return number(a) + "\x85"; }
std::string dict_of(const std::string& value) { return std::string("\x80\x02") + "}(" + text("w") + value + "u."; }

TorchFile open(const std::string& program, const std::vector<ZipItem>& more = {{"x/data/0", std::string(16, '\0')}}) {
  std::vector<ZipItem> items{{"x/data.pkl", program}};
  items.insert(items.end(), more.begin(), more.end());
  return TorchFile::from_bytes(zip_bytes(items), "x.pth");
}

}  // namespace

TEST_CASE("pickle: a plain state dict, parameters, scalars, bools, nothing") {
  const TorchFile file(data("plain.pth"));
  CHECK(file.tensors().size() == 5);
  CHECK(at::equal(file.tensor("layer.weight"), count({2, 3})));
  CHECK(at::equal(file.tensor("layer.bias"), count({3}, 10)));
  CHECK(file.tensor("steps").item<int64_t>() == 7);
  CHECK(file.tensor("mask")[0].item<bool>());
  CHECK_FALSE(file.tensor("mask")[1].item<bool>());
  CHECK(file.tensor("empty").sizes() == std::vector<int64_t>{0, 4});
}

TEST_CASE("pickle: dtypes, strides, shared storages") {
  const TorchFile types(data("dtypes.pth"));
  CHECK(types.tensor("w.weight").scalar_type() == at::kBFloat16);
  CHECK(at::equal(types.tensor("w.weight").to(at::kFloat), count({4}) / 2));
  CHECK(types.tensor("half").scalar_type() == at::kHalf);
  CHECK(types.tensor("double").scalar_type() == at::kDouble);
  CHECK(types.tensor("byte").scalar_type() == at::kByte);
  CHECK(at::equal(types.tensor("double").to(at::kFloat), count({2})));

  const TorchFile strided(data("strided.pth"));
  CHECK(strided.tensor("t").strides() == std::vector<int64_t>{1, 3});
  CHECK(at::equal(strided.tensor("t"), count({4, 3}).t()));
  CHECK(at::equal(strided.tensor("cut"), count({4, 3}).slice(0, 1, 3).slice(1, 1)));
  CHECK(at::equal(strided.tensor("every_second"), count({10}).slice(0, 1, 10, 2)));

  const TorchFile shared(data("shared.pth"));
  CHECK(at::equal(shared.tensor("a"), count({3}, 2)));
  CHECK(at::equal(shared.tensor("c"), count({10}).slice(0, 3, 9, 2)));
  CHECK(static_cast<float*>(shared.tensor("a").data_ptr()) == static_cast<float*>(shared.tensor("b").data_ptr()) + 2);
}

TEST_CASE("pickle: tensors are views of the map and keep it alive") {
  const auto map = MappedFile::open(data("dtypes.pth"));
  at::Tensor tensor;
  {
    const TorchFile file(map);
    tensor = file.tensor("w.weight");
    CHECK(static_cast<const uint8_t*>(tensor.data_ptr()) == map->bytes().data() + file.find("w.weight")->offset);
  }
  CHECK(at::equal(tensor.to(at::kFloat), count({4}) / 2));
}

TEST_CASE("pickle: wrapped, with module metadata, with a newer protocol") {
  CHECK(at::equal(TorchFile(data("wrapped.pth")).tensor("w"), count({2})));
  CHECK(TorchFile(data("module.pth")).tensor("0.weight").sizes() == std::vector<int64_t>{1, 2});
  CHECK(at::equal(TorchFile(data("protocol4.pth")).tensor("w"), count({2})));
  const Checkpoint checkpoint = Checkpoint::open(data("plain.pth"));
  CHECK(checkpoint.contains("layer.bias"));
  CHECK(checkpoint.bytes() == 24 + 12 + 8 + 2);
}

TEST_CASE("pickle: nothing is ever run") {
  CHECK_THROWS_AS(TorchFile(data("malicious.pth")), Error);
  CHECK_THROWS_WITH(TorchFile(data("malicious.pth")), ContainsSubstring("wants to use 'posix.system'"));
  CHECK_FALSE(std::filesystem::exists("longtake_was_here"));
  CHECK_THROWS_WITH(open(std::string("\x80\x04") + text("os") + text("system") + "\x93" + text("true") + "\x85R."),
                    ContainsSubstring("'os.system'"));
  CHECK_THROWS_WITH(open("c__builtin__\neval\n."), ContainsSubstring("'__builtin__.eval'"));
  CHECK_THROWS_WITH(open("ctorch.storage\nFloatStorage\n."), ContainsSubstring("'torch.storage.FloatStorage'"));
  CHECK_THROWS_WITH(TorchFile(data("newer_call.pth")), ContainsSubstring("torch._utils._rebuild_tensor_v3"));
}

TEST_CASE("pickle: files that are something else") {
  CHECK_THROWS_WITH(TorchFile(data("legacy.pth")), ContainsSubstring("before PyTorch 1.6"));
  CHECK_THROWS_WITH(TorchFile(data("no_dict.pth")), ContainsSubstring("no state dict"));
  CHECK_THROWS_WITH(TorchFile(data("expanded.pth")), ContainsSubstring("larger (1000 elements) than its storage (1)"));
  CHECK_THROWS_WITH(TorchFile::from_bytes({}, "x.pth"), ContainsSubstring("the file is empty"));
  CHECK_THROWS_WITH(TorchFile::from_bytes(zip_bytes({{"readme", "hello"}}), "x.pth"), ContainsSubstring("no data.pkl"));
  CHECK_THROWS_WITH(TorchFile::from_bytes(zip_bytes({{"a/data.pkl", "N."}, {"b/data.pkl", "N."}}), "x.pth"),
                    ContainsSubstring("two pickles"));
  CHECK_THROWS_WITH(open("}.", {{"x/byteorder", "big"}}), ContainsSubstring("big-endian"));
  CHECK_THROWS_WITH(open("}."), ContainsSubstring("no tensors were found"));
}

TEST_CASE("pickle: hostile tensors") {
  CHECK(open(dict_of(tensor_program(tuple2(2, 2), tuple2(2, 1)))).tensor("w").numel() == 4);
  const std::string huge = std::string("\x8a\x08") + std::string(7, '\xff') + "\x7f";                   // INT64_MAX
  const std::string minus = std::string("\x8a\x01\xff");                                                // -1
  const std::string power32 = std::string("\x8a\x05") + std::string(4, '\0') + std::string("\x01", 1);  // 2^32
  struct Case {
    std::string program, message;
  };
  const std::vector<Case> cases{
      {tensor_program(tuple1(5), tuple1(1)), "leaves its storage of 4 elements"},
      {tensor_program(tuple1(4), tuple1(1), number(1)), "leaves its storage"},
      {tensor_program(tuple2(2, 2), tuple2(3, 1)), "leaves its storage"},
      {tensor_program(tuple1(1), tuple1(1), minus), "leaves its storage"},
      {tensor_program(tuple1(1), tuple1(1), huge), "leaves its storage"},
      {tensor_program(tuple1(0), tuple1(1), number(5)), "leaves its storage"},
      {tensor_program(tuple1(3), huge + "\x85"), "leaves its storage"},
      {tensor_program(tuple1(3), minus + "\x85"), "not whole numbers from 0"},
      {tensor_program(minus + "\x85", tuple1(1)), "not whole numbers from 0"},
      {tensor_program(text("a") + "\x85", tuple1(1)), "not whole numbers from 0"},
      {tensor_program(huge + "\x85", tuple1(0)), "impossible"},
      {tensor_program(power32 + power32 + "\x86", tuple2(0, 0)), "impossible"},
      {tensor_program(tuple2(2, 2), tuple1(1)), "impossible"},
      {tensor_program(tuple2(4, 2), tuple2(1, 0)), "larger (8 elements) than its storage (4)"},
      {tensor_program(tuple1(4), tuple1(1), number(0), number(5)), "should hold 5 elements but has 16 bytes"},
      {tensor_program(tuple1(4), tuple1(1), number(0), minus), "should hold -1 elements"},
      {tensor_program(tuple1(4), tuple1(1), number(0), number(4), storage_global, text("9")), "storage '9' is missing"},
      {tensor_program(tuple1(4), tuple1(1), number(0), number(4), "ctorch\nQInt8Storage\n"),
       "'torch.QInt8Storage' is unknown"},
      {tensor_program(tuple1(4), tuple1(1), number(0), number(4), text("F")), "names no storage"},
      {tensor_program(tuple1(4), tuple1(1), text("0")), "a tensor is malformed"},
  };
  for (const Case& c : cases) {
    INFO(c.message);
    CHECK_THROWS_AS(open(dict_of(c.program)), Error);
    CHECK_THROWS_WITH(open(dict_of(c.program)), ContainsSubstring(c.message));
  }
  const std::string good = tensor_program(tuple1(4), tuple1(1));
  CHECK_THROWS_WITH(open("}(" + text("w") + good + text("w") + good + "u."), ContainsSubstring("twice"));
  CHECK_THROWS_WITH(open("}(" + number(1) + good + "u."), ContainsSubstring("not a text"));
  // A storage that begins off its alignment is copied.
  int misaligned = 0;
  for (size_t pad = 0; pad < 4; ++pad) {
    const TorchFile file =
        open(dict_of(good), {{"x/pad", std::string(pad, ' ')}, {"x/data/0", std::string(12, '\0') + "\0\0\x80\x3f"s}});
    misaligned += file.find("w")->offset % 4 != 0;
    CHECK(reinterpret_cast<uintptr_t>(file.tensor("w").data_ptr()) % 4 == 0);
    CHECK(file.tensor("w")[3].item<float>() == 1);
  }
  CHECK(misaligned == 3);
}

TEST_CASE("pickle: hostile programs") {
  struct Case {
    std::string program, message;
  };
  const std::vector<Case> cases{
      {"", "ends early"},
      {"}", "ends early"},
      {".", "the stack is empty"},
      {"(.", "the stack is empty"},
      {"t.", "no mark is set"},
      {"}u.", "no mark is set"},
      {"}(Nu.", "a container does not fit"},
      {"](NNu.", "a container does not fit"},
      {"}Na.", "a container does not fit"},
      {"NNNs.", "a container does not fit"},
      {"N\x86.", "the stack is empty"},
      {"h\x05.", "did not keep"},
      {"q\x05.", "the stack is empty"},
      {"NR.", "the stack is empty"},
      {"NNR.", "a call is malformed"},
      {"N)R.", "a call is malformed"},
      {storage_global + ")R.", "a storage type is called"},
      {"ccollections\nOrderedDict\nN\x85R.", "called with arguments"},
      {"ctorch._utils\n_rebuild_parameter\n)R.", "a parameter is malformed"},
      {rebuild_global + ")R.", "a tensor is malformed"},
      {"NQ.", "names no storage"},
      {"N}b.", "attributes are set on something else"},
      {"\x80\x06.", "protocol 6 is unknown"},
      {std::string("X\xff\xff\xff\xff", 5) + "a", "a text runs beyond the end"},
      {std::string("\x8d") + std::string(8, '\xff') + "a", "a text runs beyond the end"},
      {"\x8a\x09"
       "123456789.",
       "longer than 64 bits"},
      {"ctorch", "a line does not end"},
      {"NN\x93.", "a global has no name"},
      {"I1\n.", "uses the opcode 0x49"},
      {"\x81", "uses the opcode 0x81"},
      {"N.", "holds no state dict"},
  };
  for (const Case& c : cases) {
    INFO(c.message);
    CHECK_THROWS_AS(open(c.program), Error);
    CHECK_THROWS_WITH(open(c.program), ContainsSubstring(c.message));
  }
  // Containers that contain themselves, wrapped without end, and deep nesting are harmless.
  CHECK_THROWS_AS(open(std::string("}q") + '\0' + text("state_dict") + "h" + '\0' + "s."), Error);
  CHECK_THROWS_AS(open(std::string("]q") + '\0' + "h" + '\0' + "a."), Error);
  CHECK_THROWS_AS(open(")" + std::string(1'000'000, '\x85') + "."), Error);
  CHECK_THROWS_WITH(open(std::string(3'000'000, ')') + "."), ContainsSubstring("too many values"));
  CHECK_THROWS_WITH(open(std::string(17 << 20, '(')), ContainsSubstring("too large for a model"));
}

TEST_CASE("pickle: every truncation and many damaged bytes are refused or harmless") {
  const std::vector<uint8_t> whole =
      zip_bytes({{"x/data.pkl", dict_of(tensor_program(tuple1(4), tuple1(1)))}, {"x/data/0", std::string(16, '\0')}});
  CHECK(TorchFile::from_bytes(whole, "x.pth").tensors().size() == 1);
  for (size_t size = 0; size < whole.size(); ++size) {
    CHECK_THROWS_AS(TorchFile::from_bytes({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}, "x.pth"),
                    Error);
  }
  int refused = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0x00, 0x7f, 0xff}) {
      std::vector<uint8_t> bytes = whole;
      bytes[at] = static_cast<uint8_t>(value);
      try {
        const TorchFile file = TorchFile::from_bytes(bytes, "x.pth");
        for (const TensorInfo& info : file.tensors()) file.tensor(info.name).sum();
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  CHECK(refused > 100);
}

TEST_CASE("zip: what torch.save does not write is refused") {
  const std::vector<ZipItem> items{{"x/data.pkl", dict_of(tensor_program(tuple1(4), tuple1(1)))},
                                   {"x/data/0", std::string(16, '\0')}};
  CHECK(TorchFile::from_bytes(zip_bytes(items, {.zip64 = true}), "x.pth").tensors().size() == 1);
  CHECK(TorchFile::from_bytes(zip_bytes(items, {.comment = "hello"}), "x.pth").tensors().size() == 1);
  const auto refused = [&](test::ZipOptions options, const std::string& message) {
    CHECK_THROWS_WITH(TorchFile::from_bytes(zip_bytes(items, options), "x.pth"), ContainsSubstring(message));
  };
  refused({.method = 8}, "is compressed");
  refused({.flags = 1}, "is encrypted");
  refused({.entries = 3}, "ends early");
  refused({.directory_shift = 1}, "outside the file");
  refused({.directory_shift = -1}, "holds something else");
  refused({.local_shift = 1}, "not where it should be");
  refused({.local_shift = 1 << 30}, "beyond the end of the file");
  refused({.extra_bytes = 1000}, "runs into the table of contents");
  refused({.local_name = "x/data.pkx"}, "has two names");
  CHECK_THROWS_WITH(TorchFile::from_bytes(zip_bytes({items[0], items[0]}), "x.pth"), ContainsSubstring("two entries"));
}
