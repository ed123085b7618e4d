#include "video_io/metadata.h"

#include "tests/catch.h"

#include <nlohmann/json.hpp>

using namespace longtake;

TEST_CASE("a prompt in any bytes makes valid tags") {
  const std::string prompt = std::string("caf\xc3\xa9 \xff\xfe \x1b[31m\0 end", 18) + std::string(300, 'x');
  const Tags tags = record_tags({{"prompt", prompt}, {"seed", 7}});
  for (const auto& [key, value] : tags) {
    INFO(key);
    CHECK(value.find('\0') == std::string::npos);
    CHECK(value.find('\x1b') == std::string::npos);
    CHECK(nlohmann::json::parse(nlohmann::json(value).dump()) == value);  // dump throws for broken UTF-8
  }
  const auto record = tags_record(tags);
  REQUIRE(record.has_value());
  CHECK((*record)["seed"] == 7);
}

TEST_CASE("titles end between characters") {
  for (int shift = 0; shift < 4; ++shift) {
    std::string prompt(static_cast<size_t>(shift), 'a');
    while (prompt.size() < 400) prompt += "\xf0\x9f\x8e\xac";
    const std::string title = record_tags({{"prompt", prompt}}).at("title");
    CHECK(title.size() <= 100);
    CHECK(title.size() > 90);
    CHECK(nlohmann::json(title).dump().size() == title.size() + 2);
  }
  CHECK(record_tags({{"prompt", "one\ntwo"}}).at("title") == "one");
}

TEST_CASE("foreign comments are no record") {
  CHECK(!tags_record({}));
  CHECK(!tags_record({{"comment", "made with another program"}}));
  CHECK(!tags_record({{"comment", "[1, 2]"}}));
  CHECK(!tags_record({{"comment", "{\"prompt\": "}}));
}
