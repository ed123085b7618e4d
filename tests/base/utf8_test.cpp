#include "base/utf8.h"

#include "tests/catch.h"

using longtake::is_utf8;
using longtake::printable;

TEST_CASE("well-formed UTF-8 is told from the rest") {
  for (const char* text : {"", "plain", "gr\xc3\xbc\xc3\x9f", "\xe4\xbd\xa0\xe5\xa5\xbd", "\xf0\x9f\x8e\xac",
                           "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf"})
    CHECK(is_utf8(text));
  for (const char* text : {"\x80", "\xc3", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf0\x80\x80\xaf",
                           "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe4\xbd", "a\xff"})
    CHECK_FALSE(is_utf8(text));
}

TEST_CASE("messages stay on one line and short") {
  CHECK(printable("a\nb\x7f\xff") == "a?b??");
  CHECK(printable("gr\xc3\xbcn") == "gr\xc3\xbcn");
  CHECK(printable(std::string(60, 'x')) == std::string(60, 'x'));
  CHECK(printable(std::string(61, 'x')) == std::string(60, 'x') + "...");
}
