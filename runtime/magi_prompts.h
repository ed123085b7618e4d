// Which prompt each chunk of a MAGI-1 run follows. Spec: magi1.md 3.7; lists of prompts over time: timeline.h.
#pragma once

#include <string>
#include <vector>

#include "runtime/magi_engine.h"
#include "runtime/timeline.h"

namespace longtake {

// Of each chunk from size.first on, the prompt that covers the middle of what it shows: 0 s is the first frame that is shown, a picture that
// is given or the first frame behind a video. `missing`: RunConfig::missing_frames.
std::vector<int> prompts_of_chunks(const std::vector<TimedPrompt>& prompts, const magi::VideoSize& size, int missing, int fps);

// Gives the request the prompts over time that the options have, if any; its config must be there. A prompt that no chunk follows is
// mentioned in `note`. Errors: usage (timeline.h).
void choose_prompts(const Recipe& recipe, const GenerateOptions& options, MagiRequest& request, std::string* note = nullptr);

}  // namespace longtake
