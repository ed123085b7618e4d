// One option's value from text and back to text.
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "runtime/options.h"
#include "runtime/timeline.h"

namespace longtake {
namespace {

template <class T>
std::optional<T> whole(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<double> finite(std::string_view text) {
  const auto value = whole<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::string plain(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? fmt::format("{}", static_cast<int64_t>(value))
                                                              : fmt::format("{}", value);
}

// "544x960"; nullopt where it is not two whole numbers.
std::optional<FrameSize> size_of(std::string_view text) {
  const size_t x = text.find_first_of("xX");
  if (x == std::string_view::npos) return std::nullopt;
  const auto height = whole<int>(text.substr(0, x)), width = whole<int>(text.substr(x + 1));
  if (!height || !width) return std::nullopt;
  return FrameSize{*height, *width};
}

struct ByteUnit {
  std::string_view name;
  int64_t bytes;
};
constexpr ByteUnit kByteUnits[] = {{"TB", 1'000'000'000'000}, {"GB", 1'000'000'000}, {"MB", 1'000'000}, {"kB", 1'000}, {"B", 1}};

// "500MB", "2 GB", "1.5GB", or a plain number of bytes.
std::optional<int64_t> bytes_of(std::string_view text) {
  int64_t unit = 1;
  for (const ByteUnit& candidate : kByteUnits)
    if (text.ends_with(candidate.name)) {
      unit = candidate.bytes;
      text.remove_suffix(candidate.name.size());
      break;
    }
  while (text.ends_with(' ')) text.remove_suffix(1);
  const auto value = finite(text);
  if (!value || *value < 0 || *value * static_cast<double>(unit) > 1e15) return std::nullopt;
  return std::llround(*value * static_cast<double>(unit));
}

std::string bytes_text(int64_t bytes) {
  for (const ByteUnit& unit : kByteUnits)
    if (bytes != 0 && bytes % unit.bytes == 0) return fmt::format("{}{}", bytes / unit.bytes, unit.name);
  return "0";
}

std::string expected(const OptionInfo& info) {
  switch (info.kind) {
    case OptionKind::text:
      return "UTF-8 text without NUL";
    case OptionKind::timeline:
      return "lines such as 0-5: a boat at sea";
    case OptionKind::choice:
      return fmt::format("one of {}", fmt::join(info.choices, ", "));
    case OptionKind::integer:
      return fmt::format("a whole number from {} to {}", plain(info.min), plain(info.max));
    case OptionKind::number:
      return fmt::format("a number from {} to {}", plain(info.min), plain(info.max));
    case OptionKind::toggle:
      return "true or false";
    case OptionKind::seed:
      return "a whole number from 0 to 18446744073709551615, or random";
    case OptionKind::size:
      return fmt::format("HEIGHTxWIDTH in multiples of 16 from {} to {}, such as 544x960", plain(info.min),
                         plain(info.max));
    case OptionKind::bytes:
      return "a size such as 500MB or 2GB";
    case OptionKind::seconds:
      return fmt::format("seconds from {} to {}, such as 7.4", plain(info.min), plain(info.max));
  }
  return {};
}

// Sets the field; false where the text is not what the kind expects.
bool assign(GenerateOptions& options, const OptionInfo& info, std::string_view text, const std::string& where) {
  auto in_range = [&](double value) { return value >= info.min && value <= info.max; };
  switch (info.kind) {
    case OptionKind::text:
      if (!is_utf8(text) || text.find('\0') != std::string_view::npos) return false;
      options.*std::get<std::string GenerateOptions::*>(info.field) = text;
      return true;
    case OptionKind::timeline:
      options.*std::get<std::string GenerateOptions::*>(info.field) = text.empty() ? "" : timeline_text(parse_timeline(text, where));
      return true;
    case OptionKind::choice:
      if (std::find(info.choices.begin(), info.choices.end(), text) == info.choices.end()) return false;
      options.*std::get<std::string GenerateOptions::*>(info.field) = text;
      return true;
    case OptionKind::integer: {
      const auto value = whole<int>(text);
      if (!value || !in_range(*value)) return false;
      options.*std::get<int GenerateOptions::*>(info.field) = *value;
      return true;
    }
    case OptionKind::seconds:
      if (text.ends_with('s')) text.remove_suffix(1);
      [[fallthrough]];
    case OptionKind::number: {
      const auto value = finite(text);
      if (!value || !in_range(*value)) return false;
      options.*std::get<double GenerateOptions::*>(info.field) = *value;
      return true;
    }
    case OptionKind::bytes: {
      const auto value = bytes_of(text);
      if (!value || !in_range(static_cast<double>(*value))) return false;
      options.*std::get<int64_t GenerateOptions::*>(info.field) = *value;
      return true;
    }
    case OptionKind::toggle:
      if (text != "true" && text != "false") return false;
      options.*std::get<bool GenerateOptions::*>(info.field) = text == "true";
      return true;
    case OptionKind::seed: {
      const auto value = whole<uint64_t>(text);
      if (!value && text != "random") return false;
      options.*std::get<std::optional<uint64_t> GenerateOptions::*>(info.field) = value;
      return true;
    }
    case OptionKind::size: {
      const auto value = size_of(text);
      if (!value || !in_range(value->height) || !in_range(value->width) || value->height % 16 || value->width % 16)
        return false;
      options.*std::get<FrameSize GenerateOptions::*>(info.field) = *value;
      return true;
    }
  }
  return false;
}

}  // namespace

void parse_option(GenerateOptions& options, const OptionInfo& info, std::string_view text, const std::string& where) {
  if (assign(options, info, text, where)) return;
  const std::string hint = info.kind == OptionKind::choice ? did_you_mean(text, info.choices) : std::string();
  fail_usage("{}: {} must be {}, found '{}'{}", where, info.key, expected(info), printable(text), hint);
}

std::string option_text(const GenerateOptions& options, const OptionInfo& info) {
  struct Text {
    const GenerateOptions& o;
    std::string operator()(std::string GenerateOptions::*f) const { return o.*f; }
    std::string operator()(int GenerateOptions::*f) const { return fmt::format("{}", o.*f); }
    std::string operator()(int64_t GenerateOptions::*f) const { return bytes_text(o.*f); }
    std::string operator()(double GenerateOptions::*f) const { return plain(o.*f); }
    std::string operator()(bool GenerateOptions::*f) const { return o.*f ? "true" : "false"; }
    std::string operator()(std::optional<uint64_t> GenerateOptions::*f) const {
      return o.*f ? fmt::format("{}", *(o.*f)) : "random";
    }
    std::string operator()(FrameSize GenerateOptions::*f) const {
      return fmt::format("{}x{}", (o.*f).height, (o.*f).width);
    }
  };
  return std::visit(Text{options}, info.field);
}

}  // namespace longtake
