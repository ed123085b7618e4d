#include "base/op_scope.h"

#include <fmt/format.h>

#include <cstdlib>

namespace longtake {
namespace {

constexpr std::string_view kMark = "longtake|";

}  // namespace

void OpScope::begin(std::string_view name, const OpCost& cost) {
  annotation_ = fmt::format("{}{:.0f}|{:.0f}|{}", kMark, cost.flops, cost.bytes, name);
  record_.before(std::string_view(annotation_));
}

std::optional<OpScope::Label> OpScope::parse(const std::string& annotation) {
  if (!annotation.starts_with(kMark)) return std::nullopt;
  Label label;
  char* end = nullptr;
  label.cost.flops = std::strtod(annotation.c_str() + kMark.size(), &end);
  if (*end != '|') return std::nullopt;
  label.cost.bytes = std::strtod(end + 1, &end);
  if (*end != '|') return std::nullopt;
  label.name = end + 1;
  return label;
}

}  // namespace longtake
