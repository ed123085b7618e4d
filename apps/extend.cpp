// longtake extend VIDEO: goes on from the end of any video. A run of generate that is given the video's last frames as its context.
#include "apps/commands.h"
#include "apps/options_cli.h"

namespace longtake {

void add_extend(CLI::App& program) {
  auto* verb = program.add_subcommand("extend", "Go on from the end of a video");
  verb->footer(
      "The video may have any size and frame rate: it is fitted to those of the model (--size, --fps).\n"
      "Example: longtake extend clip.mp4 -p \"a red circle moves from left to right over grass\" --add 4 -o longer.mp4");
  auto video = std::make_shared<std::string>();
  verb->add_option("VIDEO", *video, "The video to go on from; with --resume it may be left out")->type_name("");
  const auto given = add_option_flags(*verb, {"conditioning.video", "conditioning.image", "video.frames", "video.duration"});
  verb->callback([video, given] {
    if (!video->empty()) given->flags.push_back({"conditioning.video", *video, "VIDEO"});
    OptionSet options = given_options(*given);
    run_generate(std::move(options), /*extends=*/true);
  });
}

}  // namespace longtake
