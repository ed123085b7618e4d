#include "runtime/timeline.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/utf8.h"

namespace longtake {
namespace {

constexpr size_t kMaxBytes = 256 << 10;
constexpr double kMaxSeconds = 1e6;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

// "4", "4.5", "4s", "4 s"; nothing where it is no number of seconds in range.
std::optional<double> seconds_of(std::string_view text) {
  text = trimmed(text);
  if (text.ends_with('s')) text = trimmed(text.substr(0, text.size() - 1));
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size() || text.empty() || !(value >= 0 && value <= kMaxSeconds)) return std::nullopt;
  return value;
}

class Line {
 public:
  Line(const std::string& origin, int number) : origin_(origin), number_(number) {}
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> form, Args&&... args) const {
    fail_usage("{}, line {}: {}", origin_, number_, fmt::format(form, std::forward<Args>(args)...));
  }

 private:
  const std::string& origin_;
  int number_;
};

TimedPrompt parse_line(std::string_view text, const Line& line, int number) {
  const size_t colon = text.find(':');
  const std::string_view range = text.substr(0, colon);
  const size_t dash = range.find('-');
  if (colon == std::string_view::npos || dash == std::string_view::npos)
    line.refuse("expected START-END: PROMPT, such as 0-5: a boat at sea, found '{}'", printable(text.substr(0, 60)));
  TimedPrompt prompt;
  prompt.line = number;
  prompt.text = trimmed(text.substr(colon + 1));
  const auto begin = seconds_of(range.substr(0, dash));
  const std::string_view last = trimmed(range.substr(dash + 1));
  const auto end = last.empty() ? std::numeric_limits<double>::infinity() : seconds_of(last);
  if (!begin || !end) line.refuse("expected two times in seconds, such as 0-5 or 2.5s-4s, or 5- for the rest, found '{}'", printable(range));
  if (!(*begin < *end)) line.refuse("the range ends at {} s, not behind its begin at {} s", *end, *begin);
  if (prompt.text.empty()) line.refuse("there is no prompt behind the colon");
  prompt.begin = *begin, prompt.end = *end;
  return prompt;
}

// Ranges follow one another.
void check_order(const std::vector<TimedPrompt>& before, const TimedPrompt& prompt, const Line& line) {
  if (before.empty()) {
    if (prompt.begin > 0) line.refuse("the first range begins at {} s and leaves a gap behind 0; begin with 0-...", prompt.begin);
    return;
  }
  const TimedPrompt& last = before.back();
  if (std::isinf(last.end)) line.refuse("the range of line {} has no end, so nothing can follow it; give it one", last.line);
  if (prompt.begin < last.begin) line.refuse("the range begins at {} s, before that of line {} ({} s); put the lines in order", prompt.begin, last.line, last.begin);
  if (prompt.begin < last.end) line.refuse("the range begins at {} s and overlaps that of line {}, which ends at {} s", prompt.begin, last.line, last.end);
  if (prompt.begin > last.end) line.refuse("the range begins at {} s and leaves a gap behind line {}, which ends at {} s", prompt.begin, last.line, last.end);
}

}  // namespace

std::vector<TimedPrompt> parse_timeline(std::string_view text, const std::string& origin) {
  if (text.size() > kMaxBytes) fail_usage("{}: larger than {} KiB, which no list of prompts over time is", origin, kMaxBytes >> 10);
  if (!is_utf8(text)) fail_usage("{}: is not UTF-8 text; save the list as UTF-8", origin);
  std::vector<TimedPrompt> prompts;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view content = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    const Line line(origin, number);
    for (const char c : content)
      if ((c >= 0 && c < ' ' && c != '\t') || c == 0x7f) line.refuse("holds the control character U+{:04X}", static_cast<int>(c));
    if (content.empty() || content.front() == '#') continue;
    TimedPrompt prompt = parse_line(content, line, number);
    check_order(prompts, prompt, line);
    prompts.push_back(std::move(prompt));
  }
  if (prompts.empty()) fail_usage("{}: holds no prompts; write a line such as 0-5: a boat at sea", origin);
  return prompts;
}

std::string timeline_text(const std::vector<TimedPrompt>& prompts) {
  std::string out;
  for (const TimedPrompt& p : prompts)
    out += std::isinf(p.end) ? fmt::format("{}-: {}\n", p.begin, p.text) : fmt::format("{}-{}: {}\n", p.begin, p.end, p.text);
  return out;
}

void check_timeline_end(const std::vector<TimedPrompt>& prompts, double seconds, double tolerance) {
  const TimedPrompt& last = prompts.back();
  for (const TimedPrompt& p : prompts)
    if (p.begin >= seconds)
      fail_usage("prompts, line {}: the range begins at {} s, and the video ends at {:.2f} s; leave it out, or make the video longer", p.line,
                 p.begin, seconds);
  if (std::isinf(last.end)) return;
  if (last.end > seconds + tolerance)
    fail_usage("prompts, line {}: the range ends at {} s, and the video at {:.2f} s; write {}-: for the rest, or make the video longer",
               last.line, last.end, seconds, last.begin);
  if (last.end < seconds - tolerance)
    fail_usage("prompts, line {}: the range ends at {} s and leaves a gap before the video's end at {:.2f} s; write {}-: for the rest, or "
               "make the video shorter",
               last.line, last.end, seconds, last.begin);
}

}  // namespace longtake
