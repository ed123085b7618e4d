#include "models/weights/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/models/weights_files.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using test::safetensors_bytes;
using test::TempFolder;

namespace {

SafetensorsFile parse(std::vector<uint8_t> bytes) {
  return SafetensorsFile::from_bytes(std::move(bytes), "x.safetensors");
}
SafetensorsFile parse(const std::string& header, size_t data) { return parse(safetensors_bytes(header, data)); }

std::vector<uint8_t> text_bytes(const std::string& text) { return {text.begin(), text.end()}; }

}  // namespace

TEST_CASE("safetensors: a hostile or damaged file is an error that says why") {
  struct Case {
    std::string header;
    size_t data;
    std::string message;
  };
  const auto one = [](const std::string& entry) { return "{\"a\":" + entry + "}"; };
  const std::vector<Case> cases{
      {"", 0, "is not JSON"},
      {"{", 0, "is not JSON"},
      {"{}x", 0, "is not JSON"},
      {"{\"\xff\":1}", 0, "is not JSON"},
      {"[1]", 0, "not a JSON object but a JSON array"},
      {"3", 0, "not a JSON object"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "names 'a' twice"},
      {R"({"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,4]}})", 4, "names 'dtype' twice"},
      {one("1"), 0, "'a': its entry is not an object"},
      {one(R"({"shape":[1],"data_offsets":[0,4]})"), 4, "'dtype' is not a text"},
      {one(R"({"dtype":7,"shape":[1],"data_offsets":[0,4]})"), 4, "'dtype' is not a text"},
      {one(R"({"dtype":"F31","shape":[1],"data_offsets":[0,4]})"), 4, "unknown dtype 'F31'"},
      {one(R"({"dtype":"F32","data_offsets":[0,4]})"), 4, "'shape' is not a list"},
      {one(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})"), 4, "'shape' is not a list"},
      {one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})"), 4, "'shape' holds -1"},
      {one(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})"), 4, "'shape' holds 1.0"},
      {one(R"({"dtype":"F32","shape":["1"],"data_offsets":[0,4]})"), 4, "'shape' holds"},
      {one(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]})"), 4, "'shape' holds"},
      {one(R"({"dtype":"F32","shape":[99999999999999999999999],"data_offsets":[0,4]})"), 4, "'shape' holds"},
      // 2^32 x 2^32 x 4 wraps to 0 in 64 bits; 2^62 x 4 leaves int64.
      {one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})"), 0, "too large"},
      {one(R"({"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]})"), 0, "too large"},
      {one(R"({"dtype":"F32","shape":[0,4611686018427387904,4611686018427387904],"data_offsets":[0,0]})"), 0,
       "too large"},
      {one("{\"dtype\":\"U8\",\"data_offsets\":[0,1],\"shape\":[1" +
           [] {
             std::string ones;
             for (int i = 0; i < 64; ++i) ones += ",1";
             return ones;
           }() +
           "]}"),
       1, "too large"},
      {one(R"({"dtype":"F32","shape":[1]})"), 4, "'data_offsets' is not a pair"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})"), 4, "'data_offsets' is not a pair"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,-4]})"), 4, "'data_offsets' is not a pair"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4.0]})"), 4, "'data_offsets' is not a pair"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})"), 4, "ends (0) before it begins (4)"},
      {one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"), 4, "takes 8 bytes, but the file gives it 4"},
      {one(R"({"dtype":"F32","shape":[],"data_offsets":[0,0]})"), 0, "takes 4 bytes"},
      {one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})"), 7, "incomplete download?"},
      {one(R"({"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]})"), 4,
       "incomplete download?"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"), 5, "1 bytes follow the last tensor"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), 8, "bytes that belong to no tensor"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "'b' overlaps"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
       12, "'b' is preceded by"},
      {R"({"__metadata__":[]})", 0, "'__metadata__' is not an object"},
      {R"({"__metadata__":{"k":1}})", 0, "'k', which is no text"},
      {"{\"a\":" + std::string(200'000, '['), 0, "nests deeper than"},
      {"{}", 3, "3 bytes follow the last tensor"},
  };
  for (const Case& c : cases) {
    INFO(c.header.substr(0, 120));
    CHECK_THROWS_AS(parse(c.header, c.data), Error);
    CHECK_THROWS_WITH(parse(c.header, c.data), ContainsSubstring(c.message));
    CHECK_THROWS_WITH(parse(c.header, c.data), ContainsSubstring("x.safetensors"));
  }
}

TEST_CASE("safetensors: the length field and the kind of file are checked first") {
  CHECK_THROWS_WITH(parse(text_bytes("")), ContainsSubstring("the file is empty"));
  CHECK_THROWS_WITH(parse(text_bytes("1234567")), ContainsSubstring("7 bytes are too few"));
  CHECK_THROWS_WITH(parse(text_bytes("version https://git-lfs.github.com/spec/v1\n")),
                    ContainsSubstring("git lfs pull"));
  CHECK_THROWS_WITH(parse(text_bytes("<!DOCTYPE html><html>")), ContainsSubstring("web page"));
  CHECK_THROWS_WITH(parse(text_bytes("PK\3\4aaaaaaaaa")), ContainsSubstring(".pth"));
  CHECK_THROWS_WITH(parse(std::vector<uint8_t>(100, 0xff)), ContainsSubstring("is no .safetensors file"));
  std::vector<uint8_t> cut = safetensors_bytes("{}", 0);
  cut[0] = 3;
  CHECK_THROWS_WITH(parse(cut), ContainsSubstring("incomplete download?"));

  // Every truncation of a sound file is refused.
  const std::vector<uint8_t> whole = safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  CHECK(parse(whole).tensors().size() == 1);
  for (size_t size = 0; size < whole.size(); ++size) {
    CHECK_THROWS_AS(parse(std::vector<uint8_t>(whole.begin(), whole.begin() + size)), Error);
  }
}

TEST_CASE("safetensors: what the format allows is read") {
  CHECK(parse("{}", 0).tensors().empty());
  CHECK(parse("{}     ", 0).tensors().empty());
  const SafetensorsFile file = parse(
      R"({"__metadata__":{"format":"pt"},"z":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("e":{"dtype":"I16","shape":[0,3],"data_offsets":[4,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
      6);
  CHECK(file.metadata().at("format") == "pt");
  CHECK(file.tensor("z").dim() == 0);
  CHECK(file.tensor("e").sizes() == std::vector<int64_t>{0, 3});
  CHECK(file.tensor("b").numel() == 2);
  CHECK(file.find("q") == nullptr);
  CHECK_THROWS_WITH(file.tensor("q"), ContainsSubstring("holds no tensor 'q'"));
}

TEST_CASE("safetensors: misaligned data is copied, wrong bools are refused") {
  // The header takes 8 + 63 bytes, so a float at 71 + 1 or 71 is misaligned in one of the two.
  for (const std::string& pad : {"", " ", "  ", "   "}) {
    std::vector<uint8_t> bytes =
        safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})" + pad, 4);
    const float value = 1.5f;
    std::memcpy(bytes.data() + bytes.size() - 4, &value, 4);
    const at::Tensor tensor = parse(bytes).tensor("a");
    CHECK(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % 4 == 0);
    CHECK(tensor.item<float>() == 1.5f);
  }
  std::vector<uint8_t> bools = safetensors_bytes(R"({"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", 2);
  bools[bools.size() - 1] = 1;
  CHECK(parse(bools).tensor("a")[1].item<bool>());
  bools[bools.size() - 1] = 2;
  CHECK_THROWS_WITH(parse(bools).tensor("a"), ContainsSubstring("bool"));
}

TEST_CASE("safetensors: every dtype survives a round trip") {
  const TempFolder folder;
  const auto path = folder / "all.safetensors";
  std::map<std::string, at::Tensor> tensors;
  const at::Tensor base = at::arange(-6, 6).view({3, 4});
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort,
                                     at::kChar, at::kByte, at::kBool, at::kFloat8_e4m3fn, at::kFloat8_e5m2}) {
    tensors[c10::toString(dtype)] = base.abs().to(dtype);
  }
  tensors["strided \u00e9"] = base.to(at::kFloat).t();
  tensors["scalar"] = at::ones({});
  tensors["empty"] = at::zeros({0, 2});
  save_safetensors(path, tensors, {{"model", "demo"}});

  const SafetensorsFile file(path);
  CHECK(file.tensors().size() == tensors.size());
  CHECK(file.metadata() == std::map<std::string, std::string>{{"model", "demo"}});
  for (const auto& [name, tensor] : tensors) {
    INFO(name);
    const TensorInfo* info = file.find(name);
    REQUIRE(info);
    CHECK(info->offset % c10::elementSize(info->dtype) == 0);
    const at::Tensor read = file.tensor(name);
    REQUIRE(read.scalar_type() == tensor.scalar_type());
    REQUIRE(read.sizes() == tensor.sizes());
    CHECK(at::equal(read.to(at::kDouble), tensor.to(at::kDouble)));
  }
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);  // no temporary file stays
}

TEST_CASE("safetensors: tensors are views of the map and keep it alive") {
  const TempFolder folder;
  const auto path = folder / "w.safetensors";
  const at::Tensor original = at::randn({64, 32}).to(at::kBFloat16);
  save_safetensors(path, {{"w", original}, {"v", at::ones({5})}});
  at::Tensor first, second;
  {
    const auto map = MappedFile::open(path);
    const SafetensorsFile file(map);
    first = file.tensor("w");
    second = file.tensor("w");
    CHECK(static_cast<const uint8_t*>(first.data_ptr()) == map->bytes().data() + file.find("w")->offset);
    CHECK(first.scalar_type() == at::kBFloat16);
  }
  CHECK(first.data_ptr() == second.data_ptr());
  std::filesystem::remove(path);
  CHECK(at::equal(first, original));
}

TEST_CASE("safetensors: writing is all or nothing") {
  const TempFolder folder;
  const auto path = folder / "w.safetensors";
  save_safetensors(path, {{"w", at::ones({2})}});
  {
    SafetensorsWriter writer(path, {{"a", at::kFloat, {2}}, {"b", at::kFloat, {2}}}, {});
    writer.write("a", at::zeros({2}));
    CHECK_THROWS_WITH(writer.write("c", at::zeros({2})), ContainsSubstring("not announced"));
    CHECK_THROWS_WITH(writer.write("b", at::zeros({3})), ContainsSubstring("announced was Float [2]"));
    CHECK_THROWS_WITH(writer.finish(), ContainsSubstring("'b' was never written"));
  }
  CHECK(SafetensorsFile(path).tensor("w")[0].item<float>() == 1);  // the old file is untouched
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);

  CHECK_THROWS_WITH(save_safetensors(folder / "no/such/w.safetensors", {}), ContainsSubstring("cannot be written"));
  CHECK_THROWS_WITH(save_safetensors(path, {{"\xff", at::ones({1})}}), ContainsSubstring("UTF-8"));
  CHECK_THROWS_WITH(save_safetensors(path, {{"__metadata__", at::ones({1})}}), ContainsSubstring("cannot be stored"));
  CHECK_THROWS_WITH(SafetensorsFile(folder / "absent.safetensors"), ContainsSubstring("cannot be opened"));
  CHECK_THROWS_WITH(SafetensorsFile(folder.path()), ContainsSubstring("a folder?"));
}
