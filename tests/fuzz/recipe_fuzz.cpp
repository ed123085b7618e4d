// Input: a recipe of a model. Where it begins with '{' the configuration of a MAGI-1 transformer or VAE, with '-' or '#' a file of
// options. Anything but a clean read or an Error is a bug.
#include "runtime/recipe.h"

#include <cstdlib>

#include "base/error.h"
#include "models/magi/config.h"
#include "models/magi_vae/config.h"
#include "runtime/options_yaml.h"

namespace {

using namespace longtake;

void attempt(const std::function<void()>& read) {
  try {
    read();
  } catch (const Error& error) {
    if (error.code() == ExitCode::internal) std::abort();
  }
}

// Written out and read again the options are the same.
void options(const std::string& text) {
  OptionSet set;
  set.apply_yaml(text, "fuzz.yaml");
  OptionSet again;
  again.apply_yaml(set.to_yaml(), "again.yaml");
  for (const OptionInfo& info : option_schema())
    if (option_text(set.values(), info) != option_text(again.values(), info)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const char first = text.empty() ? ' ' : text[0];
  if (first == '{') {
    attempt([&] { magi::Config::parse(text, "fuzz.json"); });
    attempt([&] { parse_magi_vae_config({data, size}, "fuzz.json"); });
  } else if (first == '-' || first == '#') {
    attempt([&] { options(text); });
  } else {
    attempt([&] { parse_recipe(text, "fuzz.yaml"); });
  }
  return 0;
}
