// One header for Catch2 v2 (Debian 12) and v3 (everywhere else).
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#define LONGTAKE_SKIP(message) SKIP(message)
#else
#include <catch2/catch.hpp>
namespace Catch::Matchers {
inline auto ContainsSubstring(const std::string& text) { return Catch::Matchers::Contains(text); }
}  // namespace Catch::Matchers
// v2 cannot skip: say so and leave the test.
#define LONGTAKE_SKIP(message) \
  do {                         \
    WARN(message);             \
    return;                    \
  } while (false)
#endif
