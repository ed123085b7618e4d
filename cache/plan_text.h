// Plans as JSON (docs/plans.md). The reader is strict: unknown or repeated fields, wrong types, numbers out of bounds and positions
// outside the plan's geometry are errors that name the field; files may be hostile.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "cache/plan.h"

namespace longtake {

// `name` begins every message, such as "plan.json". Errors: bad_file.
Plan parse_plan(std::string_view text, const std::string& name);
Plan read_plan(const std::filesystem::path& path);

// One line an entry; parse_plan gives an equal plan back.
std::string plan_text(const Plan& plan);
// Under a temporary name first, then renamed. Errors: bad_file.
void write_plan(const std::filesystem::path& path, const Plan& plan);

}  // namespace longtake
