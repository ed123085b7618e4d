// Prompts over time: what is read, and what is refused with its line.
#include "runtime/timeline.h"

#include <cmath>
#include <random>

#include "base/error.h"
#include "runtime/engine.h"
#include "tests/catch.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

void refused(const std::string& text, const std::string& what) {
  INFO(text);
  CHECK_THROWS_WITH(parse_timeline(text, "list.txt"), ContainsSubstring(what));
}

GenerateOptions over_time(const std::string& lines, int frames) {
  GenerateOptions o;
  o.prompts = lines;
  o.out = "out.mp4";
  o.frames = frames, o.window = 97, o.fps = 16, o.chunk = 2;
  return o;
}

}  // namespace

TEST_CASE("lines of ranges and prompts are read, whatever their spelling") {
  const auto prompts = parse_timeline("\xef\xbb\xbf# a comment\r\n\r\n0-4: a red circle: it moves\r\n  4s - 7.5 s :a blue star\n7.5-: both\n", "list.txt");
  REQUIRE(prompts.size() == 3);
  CHECK((prompts[0].begin == 0 && prompts[0].end == 4 && prompts[0].text == "a red circle: it moves" && prompts[0].line == 3));
  CHECK((prompts[1].begin == 4 && prompts[1].end == 7.5 && prompts[1].text == "a blue star"));
  CHECK((prompts[2].begin == 7.5 && std::isinf(prompts[2].end) && prompts[2].text == "both"));
  const std::string text = timeline_text(prompts);
  CHECK(text == "0-4: a red circle: it moves\n4-7.5: a blue star\n7.5-: both\n");
  CHECK(timeline_text(parse_timeline(text, "again")) == text);
}

TEST_CASE("gaps, overlaps, disorder and nonsense are refused with their line") {
  refused("", "list.txt: holds no prompts");
  refused("# nothing\n", "holds no prompts");
  refused("0-5 a boat", "list.txt, line 1: expected START-END: PROMPT");
  refused("a boat: 0-5", "line 1: expected START-END");
  refused("0-five: a boat", "line 1: expected two times");
  refused("-5: a boat", "expected two times");
  refused("0-1e3: a boat", "expected two times");
  refused("0-nan: a boat", "expected two times");
  refused("0-inf: a boat", "expected two times");
  refused("0-2000000: a boat", "expected two times");
  refused("0-0: a boat", "not behind its begin");
  refused("5-2: a boat", "not behind its begin");
  refused("0-5:  \n", "line 1: there is no prompt");
  refused("1-5: a boat", "line 1: the first range begins at 1 s and leaves a gap");
  refused("0-5: a\n6-7: b", "line 2: the range begins at 6 s and leaves a gap behind line 1");
  refused("0-5: a\n\n4-7: b", "line 3: the range begins at 4 s and overlaps that of line 1");
  refused("0-5: a\n5-7: b\n2-3: c", "line 3: the range begins at 2 s, before that of line 2 (5 s)");
  refused("0-: a\n5-7: b", "line 2: the range of line 1 has no end");
  refused(std::string("0-5: a\x01") + "b", "U+0001");
  refused("0-5: \xff", "UTF-8");
  refused(std::string(300 << 10, '#'), "larger than");
}

TEST_CASE("hostile lists end in an error or in prompts") {
  std::mt19937 random(3);
  const std::string alphabet = "0123456789-.:s \n#ab\r\te+\xc3\xa9";
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (size_t n = random() % 24; text.size() < n;) text += alphabet[random() % alphabet.size()];
    try {
      const auto prompts = parse_timeline(text, "x");
      CHECK(prompts.front().begin == 0);
      CHECK(timeline_text(parse_timeline(timeline_text(prompts), "y")) == timeline_text(prompts));
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::usage);
    }
  }
}

TEST_CASE("a list must fit the video") {
  const auto list = [](const char* text) { return parse_timeline(text, "list.txt"); };
  CHECK_NOTHROW(check_timeline_end(list("0-2: a\n2-4: b"), 4.04, 0.25));
  CHECK_NOTHROW(check_timeline_end(list("0-2: a\n2-4: b"), 3.9, 0.25));
  CHECK_NOTHROW(check_timeline_end(list("0-2: a\n2-: b"), 400, 0.25));
  CHECK_THROWS_WITH(check_timeline_end(list("0-2: a\n2-4: b"), 3, 0.25), ContainsSubstring("line 2: the range ends at 4 s, and the video at 3.00 s; write 2-:"));
  CHECK_THROWS_WITH(check_timeline_end(list("0-2: a\n2-4: b"), 5, 0.25), ContainsSubstring("leaves a gap before the video's end at 5.00 s; write 2-:"));
  CHECK_THROWS_WITH(check_timeline_end(list("0-2: a\n2-: b"), 2, 0.25), ContainsSubstring("line 2: the range begins at 2 s, and the video ends at 2.00 s"));
}

TEST_CASE("a request has its prompts, where they begin, and a note on those without effect") {
  std::string note;
  const RunRequest request = make_request(over_time("0-2: a\n2-: b\n", 65), &note);
  CHECK(request.prompts == std::vector<std::string>{"a", "b"});
  CHECK(request.settings.texts == std::vector<double>{0, 32});
  CHECK(request.all_texts().size() == 3);
  CHECK(note.empty());
  make_request(over_time("0-2.2: a\n2.2-2.4: b\n2.4-: c", 65), &note);
  CHECK_THAT(note, ContainsSubstring("prompt 2 has no effect"));
  CHECK_THROWS_WITH(make_request(over_time("0-9: a", 65)), ContainsSubstring("line 1: the range ends at 9 s, and the video at 4.06 s"));
  GenerateOptions o = over_time("0-2: a\n2-: b\n", 0);
  o.prompt = "c";
  CHECK_THROWS_WITH(validate(o), ContainsSubstring("exclude each other"));

  // Behind a video that is gone on from, time begins with the new frames.
  o = over_time("0-1: a\n1-: b\n", 97);
  o.video = "x.mp4", o.add = 2, o.context = 9;
  CHECK(make_request(o).settings.texts == std::vector<double>{0, 25});
}
