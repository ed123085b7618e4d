#include "runtime/batch_names.h"

#include <fmt/format.h>
#include <locale.h>
#include <wctype.h>

#include <algorithm>

#include "base/utf8.h"
#include "models/umt5/unicode.h"

namespace longtake {
namespace {

constexpr size_t kPromptNameBytes = 100;

bool is_control(char32_t c) { return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029; }

// Shown as nothing, or able to turn the text around them: a name could look like another one.
bool is_invisible(char32_t c) {
  return c == 0xad || (c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
         (c >= 0xfff0 && c <= 0xffff) || (c >= 0xe0000 && c <= 0xe0fff);
}

bool is_reserved(char32_t c) { return std::u32string_view(U"/\\:*?\"<>|").find(c) != std::u32string_view::npos; }

bool is_space(char32_t c) {
  return c == ' ' || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x202f || c == 0x205f || c == 0x3000;
}

// CON, PRN, AUX, NUL, COM1.. and LPT1.. are devices on Windows, whatever extension follows.
bool is_device(std::string_view name) {
  std::string stem(name.substr(0, name.find('.')));
  std::transform(stem.begin(), stem.end(), stem.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (stem == "con" || stem == "prn" || stem == "aux" || stem == "nul") return true;
  return stem.size() == 4 && (stem.starts_with("com") || stem.starts_with("lpt")) && stem[3] >= '1' && stem[3] <= '9';
}

char32_t lower(char32_t c) {
  // glibc's own C.UTF-8 knows the case of every script; without it ASCII has to do.
  static const locale_t everywhere = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (everywhere != nullptr) return static_cast<char32_t>(towlower_l(static_cast<wint_t>(c), everywhere));
  return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

}  // namespace

std::string name_from_prompt(std::string_view prompt) {
  std::u32string kept;
  for (char32_t c : decode_utf8(prompt)) {
    if (is_invisible(c)) continue;
    const bool gap = is_space(c) || is_control(c) || is_reserved(c);
    if (!gap)
      kept += c;
    else if (!kept.empty() && kept.back() != '_')
      kept += '_';
  }
  const auto edge = [](char32_t c) { return c == '.' || c == '-' || c == '_' || c == '~'; };
  kept.erase(0, static_cast<size_t>(std::find_if_not(kept.begin(), kept.end(), edge) - kept.begin()));
  std::string name;
  for (char32_t c : compose_canonically(kept)) {
    const std::string bytes = encode_utf8({c});
    if (name.size() + bytes.size() > kPromptNameBytes) break;
    name += bytes;
  }
  while (!name.empty() && edge(static_cast<unsigned char>(name.back()))) name.pop_back();
  if (name.empty()) return "video";
  return is_device(name) ? "video_" + name : name;
}

std::string name_fault(std::string_view name) {
  if (name.empty()) return "it is empty";
  if (!is_utf8(name)) return "it is not UTF-8";
  if (name.size() > kMaxNameBytes) return fmt::format("it has {} bytes, and at most {} fit", name.size(), kMaxNameBytes);
  const std::u32string text = decode_utf8(name);
  for (char32_t c : text) {
    if (is_reserved(c)) return fmt::format("it holds '{}'", static_cast<char>(c));
    if (is_control(c) || is_invisible(c)) return fmt::format("it holds the invisible character U+{:04X}", static_cast<uint32_t>(c));
  }
  if (name.front() == '.' || name.front() == '-' || name.front() == ' ') return fmt::format("it begins with '{}'", name.front());
  if (name.back() == ' ' || name.back() == '.') return fmt::format("it ends with '{}'", name.back());
  if (compose_canonically(text) != text) return "it is not in Unicode normalisation form C (accents are characters of their own)";
  if (is_device(name)) return "it is the name of a device on Windows";
  return "";
}

std::string folded_name(std::string_view name) {
  std::u32string text = decode_utf8(name);
  for (char32_t& c : text) c = lower(c);
  return encode_utf8(compose_canonically(text));
}

std::string NamePool::claim(const std::string& name, const std::string& owner) {
  const auto [at, is_new] = owners_.emplace(folded_name(name), owner);
  return is_new ? "" : at->second;
}

std::string NamePool::claim_like(const std::string& name, const std::string& owner) {
  if (claim(name, owner).empty()) return name;
  int& next = next_.emplace(folded_name(name), 2).first->second;
  for (;; ++next) {
    const std::string candidate = fmt::format("{}-{}", name, next);
    if (claim(candidate, owner).empty()) return candidate;
  }
}

}  // namespace longtake
