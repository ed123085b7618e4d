// The families of video models, and which options mean something to which. What a model is told and cannot use is refused with the
// reason, so that nobody takes a setting for effective that is not.
#pragma once

#include <string>
#include <vector>

#include "runtime/options.h"
#include "runtime/recipe.h"

namespace longtake {

inline constexpr const char* kSkyreelsFamily = "skyreels-v2";
inline constexpr const char* kMagiFamily = "magi-1";

inline bool is_magi(const Recipe& recipe) { return recipe.architecture.family == kMagiFamily; }

// Throws (usage) for a name that is no family, beginning with `where`.
void check_family(const std::string& family, const std::string& where);

// Why this option means nothing to the model; "" where it has an effect. A recipe that names no family is one of SkyReels-V2.
std::string without_effect(const Recipe& recipe, const std::string& option);
// The keys of all such options.
std::vector<std::string> options_without_effect(const Recipe& recipe);

// Throws (usage) for an option that the user set and that means nothing to the model.
void check_options(const OptionSet& options, const Recipe& recipe);

// Checks options across each other as far as they mean something to the model (validate() or validate_run(), options.h). Errors: usage.
void validate(const GenerateOptions& options, const Recipe& recipe);

// Throws (usage) where a recipe's defaults or layouts are those of another family, beginning with `origin`.
void check_recipe_family(const Recipe& recipe, const std::string& origin);

// Throws (usage) where the model is of another family than the verb can run.
void require_skyreels(const Recipe& recipe, const std::string& verb);

}  // namespace longtake
