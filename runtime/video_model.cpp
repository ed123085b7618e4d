#include "runtime/video_model.h"

#include "runtime/engine.h"
#include "runtime/families.h"
#include "runtime/magi_engine.h"

namespace longtake {

std::unique_ptr<VideoRequest> make_video_request(const Recipe& recipe, const GenerateOptions& options, std::string* note) {
  if (is_magi(recipe)) return std::make_unique<MagiRequest>(make_magi_request(recipe, options, note));
  return std::make_unique<RunRequest>(make_request(options, note));
}

int video_frames(const Recipe& recipe, const GenerateOptions& options) {
  if (is_magi(recipe)) return make_magi_request(recipe, options).frames();
  return plan_video(options).request.frames;
}

std::unique_ptr<VideoModel> make_video_model(const ResolvedModel& model, const ModelTarget& target, const std::string& precision) {
  if (is_magi(model.recipe)) return std::make_unique<MagiEngine>(model, target, quantised_as(model.recipe, target, precision));
  return std::make_unique<Engine>(model, target);
}

}  // namespace longtake
