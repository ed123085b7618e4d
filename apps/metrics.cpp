// longtake metrics VIDEO --prompt TEXT: how well a clip of the demo world follows its prompt, as JSON.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "models/demo/world.h"
#include "video_io/follow.h"
#include "video_io/metadata.h"
#include "video_io/reader.h"

namespace longtake {

void add_metrics(CLI::App& program) {
  struct Arguments {
    std::string video, prompt;
  };
  auto* verb = program.add_subcommand("metrics", "Read colour, shape, motion and background back from a demo video, as JSON");
  auto a = std::make_shared<Arguments>();
  verb->add_option("VIDEO", a->video, "A video of the demo model")->required();
  verb->add_option("--prompt", a->prompt, "What it should show; default: the prompt in the video's metadata");
  verb->callback([a] {
    std::string prompt = a->prompt;
    if (prompt.empty())
      if (const auto record = tags_record(probe(a->video).tags))
        if (record->contains("prompt") && (*record)["prompt"].is_string()) prompt = (*record)["prompt"];
    nlohmann::ordered_json out;
    out["video"] = a->video;
    out["prompt"] = prompt;
    out.update(nlohmann::ordered_json(follow_report(measure_clip(read_video(a->video)), demo::parse_caption(prompt))));
    fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  });
}

}  // namespace longtake
