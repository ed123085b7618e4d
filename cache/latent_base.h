// What the policies on latents have in common: which baseline they save steps of.
#pragma once

#include "cache/setting_keys.h"

namespace longtake {

// extras: with what upstream runs beside a chunk's steps (MAGI-1: passes for clean keys, nearly clean copies), as `none` does; off, as
// `causal`.
inline SettingKey base_key(bool& extras) {
  return choice_key<bool>("base", extras, {{"none", true}, {"causal", false}},
                          "the policy that it saves steps of: with what upstream runs beside a chunk's steps, or without");
}

}  // namespace longtake
