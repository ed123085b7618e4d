#include "runtime/magi_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "models/magi/backbone.h"
#include "runtime/magi_codec.h"
#include "runtime/magi_recipe.h"
#include "runtime/magi_step.h"
#include "runtime/progress.h"
#include "runtime/report.h"

namespace longtake {
namespace {

int64_t chunk_tokens(const magi::RunConfig& run) { return int64_t{run.chunk_frames} * (run.height / 16) * (run.width / 16); }

}  // namespace

MagiWork magi_work(const MagiRequest& request, int64_t text_length) {
  const magi::VideoSettings s = request.settings();
  const std::vector<magi::Row> rows = magi::rows(s.schedule, s.size);
  const int64_t tokens = chunk_tokens(request.config.run);
  MagiWork work;
  work.rows = static_cast<int>(rows.size());
  // From the last row back: the first chunk that a row or a later one reads.
  int64_t first = s.size.chunks;
  for (size_t i = rows.size(); i-- > 0;) {
    const auto items = magi::work_items(rows[i], s.schedule, request.config, tokens);
    for (const WorkItem& item : items)
      work.flops += magi::transformer_flops(request.config.model, tokens, item.keys.end - item.keys.begin, text_length);
    work.forwards += static_cast<int64_t>(items.size());
    for (const magi::ChunkStep& c : rows[i].chunks) first = std::min(first, c.keys.begin);
    work.kept_chunks = std::max(work.kept_chunks, rows[i].chunks.back().chunk + 1 - first);
  }
  return work;
}

std::string magi_plan_report(const MagiRequest& request, const Recipe& recipe, const MemoryPlan& memory) {
  const magi::RunConfig& run = request.config.run;
  const magi::VideoSettings s = request.settings();
  const MagiWork work = magi_work(request, request.config.model.caption_length);
  std::string out = fmt::format("video: {} frames of {}x{} (height x width), {} latent frames ({} of them given) in {} chunks of {}\n",
                                request.frames(), run.height, run.width, s.size.frames(), s.size.prefix_frames, s.size.chunks, run.chunk_frames);
  if (request.prompts.size() > 1) out += fmt::format("prompts: {}\n", prompts_by_chunk(request.prompts, request.prompt_of, s.size.first + 1));
  out += fmt::format("rows: {} with {} chunks in flight, {} forward{} a step, {} chunks computed in all, {}; keys and values of {} chunks\n",
                     work.rows, run.window, run.branches, run.branches == 1 ? "" : "s", work.forwards, format_flops(work.flops), work.kept_chunks);
  out += fmt::format("decisions by step (F full, R reused, P predicted, T per token, ? when the time comes): {}\n",
                     make_latent_policy(request.policy)->preview(run.steps));
  if (const double flops = magi_codec_flops(recipe, run.height, run.width, request.frames()); flops > 0)
    out += fmt::format("VAE decode: {}\n", format_flops(flops));
  out += memory_table(memory);
  return out;
}

}  // namespace longtake
