// A seed for each weight, so that random weights do not depend on the order in which they are drawn.
#pragma once

#include <cstdint>
#include <string_view>

namespace longtake {

// FNV-1a over the name, mixed with the seed (splitmix64's finaliser).
constexpr uint64_t seed_of_name(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  hash += seed * 0x9e3779b97f4a7c15u;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
  return hash ^ (hash >> 31);
}

}  // namespace longtake
