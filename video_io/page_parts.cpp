#include "video_io/page_parts.h"

#include "runtime/progress.h"
#include "video_io/plots.h"
#include "video_io/png.h"

#include <fmt/format.h>

namespace longtake {

std::string format_value(double value, Unit unit) {
  switch (unit) {
    case Unit::seconds:
      return fmt::format("{:.{}f}", value, value < 100 ? 2 : 1);
    case Unit::times:
      return fmt::format("{:.2f}x", value);
    case Unit::flops:
      return format_flops(value);
    case Unit::percent:
      return fmt::format("{:.0f} %", 100 * value);
    case Unit::bytes:
      return format_bytes(value);
    case Unit::decibel:
      return fmt::format("{:.2f} dB", value);
    case Unit::similarity:
      return fmt::format("{:.4f}", value);
    case Unit::ratio:
      return fmt::format("{:.2f}", value);
  }
  return "";
}

std::string format_estimate(const Estimate& estimate, Unit unit) {
  return estimate.count == 0 ? "no value" : format_value(estimate.value, unit);
}

std::string no_value() { return "<span class=\"none\">–</span>"; }

namespace {

// What stands behind the number: " dB", "x".
std::string_view suffix(std::string_view text) { return text.substr(text.find_last_of("0123456789") + 1); }

std::string without(const std::string& text, std::string_view end) {
  return suffix(text) == end ? text.substr(0, text.size() - end.size()) : text;
}

}  // namespace

std::string estimate_cell(const Estimate& estimate, Unit unit) {
  if (estimate.count == 0) return no_value();
  const std::string out = format_value(estimate.value, unit);
  if (!estimate.interval) return out;
  const std::string low = format_value(estimate.interval->low, unit),
                    high = format_value(estimate.interval->high, unit);
  // Work that does not depend on the clip needs no interval; the unit stands with the value.
  if (low == high) return out;
  const std::string_view end = suffix(out);
  return out + fmt::format("<span class=\"ci\">{} – {}</span>", without(low, end), without(high, end));
}

std::string policy_cell(const Comparison& comparison, int policy) {
  const ComparedPolicy& p = comparison.policies[policy];
  // Long labels may break where a setting ends.
  std::string label;
  for (const char c : p.entry.label) {
    if (c == '@') label += "<wbr/>";
    label += html_text(std::string(1, c));
    if (c == ':' || c == ',' || c == ';') label += "<wbr/>";
  }
  return "<span class=\"policy\">" + marker_svg(policy) + "<span>" + label + "</span></span>" +
         (p.added ? " <span class=\"small\">(baseline)</span>" : "");
}

std::string Table::html() const {
  std::string out = "<div class=\"scroll\"><table>\n";
  if (!caption.empty()) out += "<caption>" + html_text(caption) + "</caption>\n";
  out += "<thead>";
  if (!groups_.empty()) {
    out += "<tr>";
    for (const auto& [title, span] : groups_)
      out += title.empty()
                 ? fmt::format("<td colspan=\"{}\"></td>", span)
                 : fmt::format("<th class=\"group\" scope=\"colgroup\" colspan=\"{}\">{}</th>", span, html_text(title));
    out += "</tr>\n";
  }
  out += "<tr>";
  for (size_t i = 0; i < columns.size(); ++i)
    out +=
        fmt::format("<th scope=\"col\"{}>{}</th>", i == 0 ? " style=\"text-align:left\"" : "", html_text(columns[i]));
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : rows_) {
    out += "<tr><th scope=\"row\">" + row.front() + "</th>";
    for (size_t i = 1; i < row.size(); ++i) out += "<td>" + row[i] + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string figure(const std::string& svg, const std::string& caption_html) {
  return svg.empty() ? "" : "<figure>" + svg + "<figcaption>" + caption_html + "</figcaption></figure>\n";
}

std::string base64(const std::vector<uint8_t>& bytes) {
  static constexpr char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t word = bytes[i] << 16;
    if (i + 1 < bytes.size()) word |= bytes[i + 1] << 8;
    if (i + 2 < bytes.size()) word |= bytes[i + 2];
    out += letters[word >> 18 & 63];
    out += letters[word >> 12 & 63];
    out += i + 1 < bytes.size() ? letters[word >> 6 & 63] : '=';
    out += i + 2 < bytes.size() ? letters[word & 63] : '=';
  }
  return out;
}

std::string png_uri(const at::Tensor& rgb) { return "data:image/png;base64," + base64(encode_png(rgb)); }

std::string html_text_lines(const std::string& text) {
  std::string out;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    out += html_text(text.substr(start, end - start)) + "\n";
    start = end + 1;
  }
  return out;
}

}  // namespace longtake
