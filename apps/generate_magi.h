// longtake generate and extend with a MAGI-1 model.
#pragma once

#include "runtime/options.h"
#include "runtime/recipe.h"

namespace longtake {

// The options are those of flags, --config and the recipe, checked against the model's family.
void generate_magi(OptionSet options, const ResolvedModel& model, bool extends);

}  // namespace longtake
