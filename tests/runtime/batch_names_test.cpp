#include "runtime/batch_names.h"

#include <filesystem>
#include <random>
#include <set>

#include "base/utf8.h"
#include "models/umt5/unicode.h"
#include "tests/catch.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("prompts become readable file names") {
  CHECK(name_from_prompt("A red circle moves up over grass") == "A_red_circle_moves_up_over_grass");
  CHECK(name_from_prompt("  what?  a/b\\c: \"d\" <e>|*  ") == "what_a_b_c_d_e");
  CHECK(name_from_prompt("../../etc/passwd") == "etc_passwd");
  CHECK(name_from_prompt("-rf .hidden...") == "rf_.hidden");
  CHECK(name_from_prompt("a\nb\tc\x7f") == "a_b_c");
  CHECK(name_from_prompt("nul") == "video_nul");
  CHECK(name_from_prompt("COM1.txt") == "video_COM1.txt");
  CHECK(name_from_prompt("") == "video");
  CHECK(name_from_prompt("/// ... ---") == "video");
  CHECK(name_from_prompt("日本語のプロンプト") == "日本語のプロンプト");
  CHECK(name_from_prompt("cafe\u0301") == "caf\u00e9");
  CHECK(name_from_prompt("a\u202egpj.\u200bexe") == "agpj.exe");  // the override would show it backwards
  CHECK(name_from_prompt("e\u200b\u0301") == "\u00e9");           // composed once what stood between is gone
  CHECK(name_from_prompt(std::string(5000, 'x')).size() == 100);
}

TEST_CASE("whatever the prompt, its name is a file name, and stays what it is") {
  std::mt19937 random(7);
  const std::u32string pool = U"ab ./\\:*?\"<>|-_~\n\t\u00e9e\u0301\u0327\u3042\uac00\u1100\u1161\u202e\ufeff\U0001f600\u00a0";
  for (int round = 0; round < 3000; ++round) {
    std::u32string text;
    const size_t length = random() % 200;
    for (size_t i = 0; i < length; ++i) text += pool[random() % pool.size()];
    const std::string name = name_from_prompt(encode_utf8(text));
    INFO(encode_utf8(text));
    CHECK(name_fault(name) == "");
    CHECK(name.size() <= 106);
    CHECK(std::filesystem::path("videos") / (name + ".mp4") == (std::filesystem::path("videos") / (name + ".mp4")).lexically_normal());
    CHECK((std::filesystem::path("videos") / name).lexically_normal().parent_path() == "videos");
  }
}

TEST_CASE("names that cannot be file names are refused with the reason") {
  CHECK(name_fault("a red circle, at dusk.-0") == "");
  CHECK(name_fault(std::string(240, 'x')) == "");
  CHECK_THAT(name_fault(std::string(241, 'x')), ContainsSubstring("241 bytes"));
  CHECK_THAT(name_fault(""), ContainsSubstring("empty"));
  CHECK_THAT(name_fault("a/b"), ContainsSubstring("'/'"));
  CHECK_THAT(name_fault("..\\x"), ContainsSubstring("'\\'"));
  CHECK_THAT(name_fault(".."), ContainsSubstring("begins with '.'"));
  CHECK_THAT(name_fault("-x"), ContainsSubstring("begins with '-'"));
  CHECK_THAT(name_fault("x "), ContainsSubstring("ends with ' '"));
  CHECK_THAT(name_fault(std::string("a\0b", 3)), ContainsSubstring("U+0000"));
  CHECK_THAT(name_fault("a\u202eb"), ContainsSubstring("U+202E"));
  CHECK_THAT(name_fault("caf\xe9"), ContainsSubstring("UTF-8"));
  CHECK_THAT(name_fault("cafe\u0301"), ContainsSubstring("form C"));
  CHECK_THAT(name_fault("aux"), ContainsSubstring("Windows"));
}

TEST_CASE("no two names are one file anywhere") {
  NamePool pool;
  CHECK(pool.claim_like("a", "1") == "a");
  CHECK(pool.claim_like("A", "2") == "A-2");
  CHECK(pool.claim_like("a", "3") == "a-3");
  CHECK(pool.claim("a-2", "4") == "2");
  CHECK(pool.claim("É", "5").empty());
  CHECK(pool.claim("e\u0301", "6") == "5");
  std::set<std::string> names;
  for (int i = 0; i < 2000; ++i) names.insert(folded_name(pool.claim_like("same", "x")));
  CHECK(names.size() == 2000);
}
