// .npz files: arrays as NumPy writes them, special_tokens.npz, and archives and headers that must be refused.
#include "models/weights/npz.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include "models/magi/text_rows.h"
#include "models/weights/checkpoint.h"
#include "tests/catch.h"
#include "tests/models/npz_files.h"
#include "tests/refused.h"

using namespace longtake;
using namespace std::string_literals;
using Catch::Matchers::ContainsSubstring;
using test::npy;
using test::npy_header;

namespace {

NpzFile read(const std::string& array, const test::ZipOptions& options = {}) {
  return NpzFile::from_bytes(test::zip_bytes({{"a.npy", array}}, options), "x.npz");
}
// What is said of an array with this header and 48 bytes of elements.
std::string header_refused(const std::string& header) {
  return refused([&] { read(npy_header(header) + std::string(48, '\0')); });
}

}  // namespace

TEST_CASE("npz: arrays come back with their values, whatever the version and dtype") {
  const at::Tensor want = at::arange(6, at::TensorOptions().dtype(at::kDouble)).view({2, 3});
  for (const int version : {1, 2, 3}) CHECK(at::equal(read(npy(want, version)).tensor("a"), want));
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kLong, at::kInt, at::kShort, at::kChar, at::kByte}) {
    const NpzFile file = read(npy(want.to(dtype)));
    CHECK(file.tensors().at(0).dtype == dtype);
    CHECK(at::equal(file.tensor("a"), want.to(dtype)));
  }
  CHECK(at::equal(read(npy(want.gt(2))).tensor("a"), want.gt(2)));
  CHECK(read(npy(want[1][2])).tensor("a").item<double>() == 5);  // shape ()
  CHECK(read(npy(want.narrow(0, 0, 0))).tensor("a").sizes().vec() == std::vector<int64_t>{0, 3});
  CHECK(at::equal(read(npy(want), {.zip64 = true}).tensor("a"), want));
  // A column of one dimension is in both orders at once.
  CHECK(read(npy_header("{'descr': '<f8', 'fortran_order': True, 'shape': (6,), }") + std::string(48, '\0')).tensor("a").numel() == 6);
}

TEST_CASE("npz: an archive that Python's zipfile wrote as numpy.savez does is read like any checkpoint") {
  const Checkpoint checkpoint = Checkpoint::open(LONGTAKE_SOURCE_DIR "/tests/fuzz/corpus/npz/special_tokens.npz");
  CHECK(checkpoint.names() == std::vector<std::string>{"caption_token", "logo_token", "other_tokens"});
  CHECK(checkpoint.info("other_tokens").shape == std::vector<int64_t>{17, 2});
  CHECK(checkpoint.tensor("other_tokens")[16][1].item<double>() == 33.0 / 8);
}

TEST_CASE("npz: what is no archive of arrays is refused") {
  const at::Tensor x = at::arange(6, at::TensorOptions().dtype(at::kDouble));
  CHECK_THAT(refused([] { NpzFile::from_bytes({}, "x.npz"); }), ContainsSubstring("x.npz: is no .npz file"));
  CHECK_THAT(refused([] { NpzFile::from_bytes({'<', '!', 'D', 'O'}, "x.npz"); }), ContainsSubstring("web page"));
  CHECK_THAT(refused([] { NpzFile::from_bytes(test::zip_bytes({}), "x.npz"); }), ContainsSubstring("x.npz"));
  CHECK_THAT(refused([] { NpzFile::from_bytes(test::zip_bytes({{"a.txt", "x"}}), "x.npz"); }), ContainsSubstring("'a.txt'"));
  CHECK_THAT(refused([&] { read(npy(x), {.method = 8}); }), ContainsSubstring("compressed"));
  CHECK_THAT(refused([&] { read(npy(x), {.extra_bytes = 1000}); }), ContainsSubstring("damaged"));
  CHECK_THAT(refused([] { NpzFile("/nonexistent/x.npz"); }), ContainsSubstring("/nonexistent/x.npz"));
  const std::vector<uint8_t> whole = test::zip_bytes({{"a.npy", npy(x)}});
  for (size_t size = 0; size < whole.size(); ++size)
    CHECK(refused([&] { NpzFile::from_bytes({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)}, "x.npz"); }) != "");
}

TEST_CASE("npz: every cut array and every damaged header is refused by name") {
  const std::string whole = npy(at::arange(6, at::TensorOptions().dtype(at::kDouble)));
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string told = refused([&] { read(whole.substr(0, size)); });
    INFO(size);
    CHECK_THAT(told, ContainsSubstring("x.npz: array 'a'"));
  }
  CHECK_THAT(refused([&] { read(whole + "x"); }), ContainsSubstring("49 bytes"));
  CHECK_THAT(refused([&] { read("\x93NUMPY\x09\0\x10\0"s + whole.substr(10)); }), ContainsSubstring("version 9"));
  CHECK_THAT(refused([&] { read("\x93NUMPY\x02\0\xff\xff\xff\xff"s + whole.substr(10)); }), ContainsSubstring("4294967295"));
  CHECK_THAT(header_refused("{'descr': '>f8', 'fortran_order': False, 'shape': (6,)}"), ContainsSubstring("'>f8'"));
  CHECK_THAT(header_refused("{'descr': '|O', 'fortran_order': False, 'shape': (6,)}"), ContainsSubstring("'|O'"));
  CHECK_THAT(header_refused("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (6,)}"), ContainsSubstring("header"));
  CHECK_THAT(header_refused("{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3)}"), ContainsSubstring("fortran_order"));
  CHECK_THAT(header_refused("{'descr': '<f8', 'fortran_order': 1, 'shape': (6,)}"), ContainsSubstring("True or False"));
  for (const char* shape : {"(6)", "(-6,)", "(6", "(6,,)", "(2 3)", "6", "(2, 3, 2)", "(x,)", "(99999999999999999999,)",
                            "(4611686018427387904, 4)", "(3037000500, 3037000500)", "[6]", ""}) {
    INFO(shape);
    CHECK(header_refused(fmt::format("{{'descr': '<f8', 'fortran_order': False, 'shape': {}}}", shape)) != "");
  }
  std::string sizes;
  for (int i = 0; i < 100; ++i) sizes += "1, ";
  CHECK_THAT(header_refused("{'descr': '<f8', 'fortran_order': False, 'shape': (" + sizes + "6)}"), ContainsSubstring("dimensions"));
  for (const char* header :
       {"", "{", "{}", "{'descr'", "{'descr': '<f8'}", "{'descr: '<f8', 'fortran_order': False, 'shape': (6,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (6,)} x", "{'descr': '<f8', 'fortran_order': False, 'shape': (6,), 'x': 1}",
        "{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (6,)}", "__import__('os').system('true')"}) {
    INFO(header);
    CHECK_THAT(header_refused(header), ContainsSubstring("header"));
  }
}

TEST_CASE("MAGI-1's special tokens are read rounded to float16, and other files refused") {
  test::TempFolder folder;
  const auto file = folder / "special_tokens.npz";
  const at::Tensor rows = test::special_rows(17, 4, 0.1234567891);
  const auto told = [&](const std::map<std::string, at::Tensor>& arrays) {
    test::save_npz(file, arrays);
    return refused([&] { magi::SpecialTokens::read(file, 4); });
  };
  const at::Tensor one = rows.narrow(0, 0, 1);
  CHECK(told({{"caption_token", one}, {"logo_token", one}, {"other_tokens", rows}}) == "");
  const auto tokens = magi::SpecialTokens::read(file, 4);
  CHECK(at::equal(tokens.others, rows.to(at::kHalf).to(at::kFloat)));
  CHECK_FALSE(at::equal(tokens.others, rows.to(at::kFloat)));
  CHECK_THAT(told({{"caption_token", one}, {"other_tokens", rows}}), ContainsSubstring("'logo_token'"));
  CHECK_THAT(told({{"caption_token", one}, {"logo_token", one}, {"other_tokens", rows.narrow(1, 0, 3)}}), ContainsSubstring("width 4"));
  CHECK_THAT(told({{"caption_token", one}, {"logo_token", one}, {"other_tokens", rows.to(at::kLong)}}), ContainsSubstring("floating-point"));
  CHECK_THAT(told({{"caption_token", one}, {"logo_token", rows}, {"other_tokens", rows}}), ContainsSubstring("logo_token of [1"));
  CHECK_THAT(told({{"caption_token", one}, {"logo_token", one}, {"other_tokens", rows.narrow(0, 0, 16)}}), ContainsSubstring("17 or more"));
  CHECK_THAT(told({{"caption_token", one}, {"logo_token", one}, {"other_tokens", rows * 1e9}}), ContainsSubstring("not finite"));
}
