// Building blocks of the report page: numbers with their units and intervals, tables, figures, pictures as data URIs.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "video_io/bootstrap.h"
#include "video_io/comparison.h"

namespace longtake {

enum class Unit { seconds, times, flops, percent, bytes, decibel, similarity, ratio };

std::string format_value(double value, Unit unit);
// The value, without interval; "no value" where there are no clips.
std::string format_estimate(const Estimate& estimate, Unit unit);

// Cells, as HTML.
std::string no_value();
std::string estimate_cell(const Estimate& estimate, Unit unit);
std::string policy_cell(const Comparison& comparison, int policy);  // marker and label

class Table {
 public:
  std::string caption;               // plain text
  std::vector<std::string> columns;  // plain text

  void group(std::string title, size_t columns) { groups_.emplace_back(std::move(title), columns); }
  // A new row whose first cell (HTML) names it; append the other cells to it.
  std::vector<std::string>& row(std::string first) { return rows_.emplace_back(1, std::move(first)); }
  std::string html() const;

 private:
  std::vector<std::pair<std::string, size_t>> groups_;  // a row above the columns
  std::deque<std::vector<std::string>> rows_;
};

// "" where the drawing is empty. The caption is HTML.
std::string figure(const std::string& svg, const std::string& caption_html);

std::string base64(const std::vector<uint8_t>& bytes);
std::string png_uri(const at::Tensor& rgb);            // data:image/png;base64,...
std::string html_text_lines(const std::string& text);  // as html_text, but lines stay lines

}  // namespace longtake
