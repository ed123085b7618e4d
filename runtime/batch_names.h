// File names of the videos of a batch, which stay within their folder whatever a prompt or a job says.
//
// Names are UTF-8 in Unicode normalisation form C (as file systems that do not care keep them and those that do expect
// them), hold no separators, control or invisible formatting characters, nor what Windows and network drives refuse, and do
// not begin with a dot or a dash.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace longtake {

inline constexpr size_t kMaxNameBytes = 240;  // leaves room below the usual 255 for ".mp4" and the like

// A name made from a prompt: its words joined by "_", at most about 100 bytes; "video" where nothing is left.
// `prompt` is UTF-8.
std::string name_from_prompt(std::string_view prompt);

// What keeps `name` from being a file name, as "it ..."; "" where nothing does. Spaces are allowed.
std::string name_fault(std::string_view name);

// Equal for names that a file system which ignores case, or normalises, takes for one.
std::string folded_name(std::string_view name);

// Hands out names that no other one equals.
class NamePool {
 public:
  // Where `name` is taken: who has it; else "" and it is now `owner`'s.
  std::string claim(const std::string& name, const std::string& owner);

  // `name`, or with "-2", "-3", ... behind it.
  std::string claim_like(const std::string& name, const std::string& owner);

 private:
  std::map<std::string, std::string> owners_;  // by folded name
  std::map<std::string, int> next_;            // by folded name: the number to try
};

}  // namespace longtake
