// Input: what a user may give as text. The first byte says what the rest is: 't' prompts over time, 'p' a prompt for the UMT5
// tokenizer, 'c' a caption for T5's, 'w' a scene of the demo world, 'k' --kv, else --policy. Anything but a result that reads back as
// itself or an Error is a bug. SentencePiece reads its own model files; of them we parse nothing.
#include <cstdlib>

#include "base/error.h"
#include "base/utf8.h"
#include "models/demo/world.h"
#include "models/umt5/caption_clean.h"
#include "models/umt5/text_clean.h"
#include "runtime/kv_choice.h"
#include "runtime/policies.h"
#include "runtime/policy_spec.h"
#include "runtime/timeline.h"

namespace {

using namespace longtake;

void check(bool holds) {
  if (!holds) std::abort();
}

void timeline(const std::string& text) {
  const std::vector<TimedPrompt> prompts = parse_timeline(text, "fuzz.txt");
  const std::vector<TimedPrompt> again = parse_timeline(timeline_text(prompts), "again.txt");
  check(!prompts.empty() && prompts.size() == again.size() && prompts[0].begin == 0);
  for (size_t i = 0; i < prompts.size(); ++i) {
    check(prompts[i].begin < prompts[i].end && (i == 0 || prompts[i].begin == prompts[i - 1].end));
    check(prompts[i].begin == again[i].begin && prompts[i].end == again[i].end && prompts[i].text == again[i].text);
  }
  check_timeline_end(prompts, 10, 0.1);
}

void policy(const std::string& text) {
  const PolicySpec spec = parse_policy(text);
  check(parse_policy(to_text(spec)) == spec);
  choose_policy(spec, false);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    switch (data[0]) {
      case 't': timeline(text); break;
      case 'p': check(is_utf8(clean_prompt(text))); break;
      case 'c': check(is_utf8(clean_caption(text))); break;
      case 'w': demo::parse_caption(text); break;
      case 'k': choose_kv(text, AttentionScheme::causal); break;
      default: policy({reinterpret_cast<const char*>(data), size});
    }
  } catch (const Error& error) {
    check(error.code() != ExitCode::internal);
  }
  return 0;
}
