// What a verb that makes videos asks of a model's family before the model is loaded. All else goes through VideoModel (video_model.h).
#pragma once

#include <string>
#include <variant>

#include "apps/memory_gate.h"
#include "apps/run_inputs.h"
#include "runtime/model.h"
#include "runtime/options.h"
#include "runtime/video_model.h"

namespace longtake {

// Reads the run's inputs; what they decide about the options is set there. Errors: RunInputs', and usage for a context that the model
// cannot go on from.
RunInputs read_inputs(OptionSet& options, const Recipe& recipe);

// The memory of a model's runs.
class RunMemory {
 public:
  // Of a model whose runs have these options' frame rate and precision, and hand on their frames there.
  RunMemory(const ResolvedModel& model, const ModelTarget& target, const GenerateOptions& options, FrameTarget frames_go);

  // Settles how the run decodes by the memory that there is (MemoryGate::pass). `encodes`: the text encoder will be needed.
  MemoryPlan settle(GenerateOptions& options, VideoRequest& request, bool encodes, std::string& note) const;
  // Windows, chunks, rows, FLOPs and memory of the run, as --dry-run has them.
  std::string report(const Recipe& recipe, const VideoRequest& request) const;

 private:
  std::variant<MemoryGate, MagiMemoryGate> gate_;
};

// Settles how a run is decoded, by the memory that there is, where nothing else is to be done of it (pass_decoding). `asked`: the user said how
// many latents at once.
void settle_decoding(const ResolvedModel& model, const ModelTarget& target, bool asked, GenerateOptions& options, VideoRequest& request,
                     std::string& note);

// What --dry-run says of the run: windows, chunks, rows, FLOPs, memory. The model needs no files.
std::string dry_run_report(const ResolvedModel& model, GenerateOptions options, VideoRequest& request);

}  // namespace longtake
