// Whole MAGI-1 runs against the reference: text, image and video to video, base and distilled, every grid and window.
#include <map>

#include "tests/golden/magi_runs.h"

using namespace longtake;

namespace {

nlohmann::json range(const KeyRange& r) { return {r.begin, r.end}; }

// The model calls of the run, in order.
void check_calls(const nlohmann::json& steps, const std::vector<magi::Row>& rows,
                 const std::map<int, std::vector<int>>& chunks_of_row) {
  REQUIRE(rows.size() == steps.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    INFO(steps[i].dump());
    CHECK(rows[i].prefix == steps[i].at("prefix_feature"));
    CHECK(rows[i].extra_clean == steps[i].at("extra_clean"));
    CHECK(rows[i].interval == steps[i].at("interval"));
    if (!rows[i].prefix) CHECK(rows[i].nearly_clean == steps[i].at("nearly_clean"));
    REQUIRE(rows[i].chunks.size() == steps[i].at("t").size());
    std::vector<int> chunks;
    for (size_t j = 0; j < rows[i].chunks.size(); ++j) {
      CHECK(rows[i].chunks[j].t == steps[i].at("t")[j].get<float>());
      CHECK(range(rows[i].chunks[j].keys) == steps[i].at("kv_chunks")[j]);
      chunks.push_back(steps[i].at("slice_point").get<int>() + static_cast<int>(j));
    }
    CHECK(chunks_of_row.at(static_cast<int>(i)) == chunks);
  }
}

void check_run(const golden::MagiModel& m, const Checkpoint& io, const std::string& name, const nlohmann::json& run) {
  INFO(m.set << " " << name);
  magi::VideoSettings settings = magi::VideoSettings::of(m.configured(run), run.at("prefix_latent_frames"));
  settings.quirks.moved_prefix = true;
  CHECK(settings.size.chunks == run.at("chunk_num"));

  magi::TextSettings special{.high_quality = false, .duration = false};
  for (const std::string on : run.at("special_rows")) {
    if (on == "PAD_HQ") special.high_quality = true;
    if (on == "PAD_DURATION") special.duration = true;
  }
  const auto tokens = magi::SpecialTokens::from(io.tensor("special.caption_f64"), io.tensor("special.logo_f64"),
                                                io.tensor("special.other_tokens_f64"));
  const std::string caption = "caption_" + run.at("caption").get<std::string>();
  const int64_t length = io.tensor(caption + "_mask").sum().item<int64_t>();
  const magi::VideoTexts texts(*m.transformer, {io.tensor(caption).narrow(0, 0, length)}, {}, tokens, special,
                               settings.size);
  const at::Tensor noise = io.tensor(name + ".noise");
  const auto backbone = m.backbone(texts, settings.size, noise.size(2), noise.size(3));
  const at::Tensor prefix = io.contains(name + ".prefix") ? io.tensor(name + ".prefix") : at::Tensor();

  const auto rows = magi::rows(settings.schedule, settings.size);
  const int per_stage = settings.schedule.steps / settings.schedule.window;
  const double tolerance = m.target.tolerance(2e-4, 6e-2);
  std::map<int, std::vector<int>> chunks_of_row;
  DenoiseHooks hooks;
  hooks.on_decision = [&](const DecisionRecord& d) { chunks_of_row[d.row].push_back(d.chunk); };
  int emitted = 0;
  hooks.on_row_end = [&](const RowEnd& end) {
    for (const int chunk : end.finished) {
      const KeyRange frames = settings.size.emitted(chunk);
      CHECK(frames.end - frames.begin == run.at("emitted").at(emitted).at("latent_frames"));
      const std::string key = fmt::format("{}.chunk{}", name, emitted++);
      CHECK(golden::within_norm(m.set + " " + key + m.target.name(), end.latents.slice(1, frames.begin, frames.end),
                                io.tensor(key), tolerance));
    }
    const int stage = (end.row + 1) / per_stage - 1;
    const std::string key = fmt::format("{}.x_after_stage{}", name, stage);
    if ((end.row + 1) % per_stage == 0 && io.contains(key))
      CHECK(golden::within_norm(m.set + " " + key + m.target.name(), end.latents, io.tensor(key), tolerance));
  };
  golden::GivenNoise given(noise);
  RunStats stats;
  RecomputeAll policy(1);
  magi::denoise_video(backbone, policy, settings, prefix, given, m.target.device, stats, hooks);
  CHECK(emitted == static_cast<int>(run.at("emitted").size()));
  check_calls(run.at("steps"), rows, chunks_of_row);
}

}  // namespace

TEST_CASE("MAGI-1's whole runs are the reference's", "[golden]") {
  const auto root = golden::magi();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  for (const golden::Target& target : golden::targets())
    for (const std::string set : {"base", "distill", "options"}) {
      const golden::MagiModel m(root, set, target);
      const Checkpoint io = Checkpoint::open(root / set / "pipeline.safetensors");
      std::ifstream stream(root / set / "pipeline.json");
      const auto runs = nlohmann::json::parse(stream);
      for (const auto& [name, run] : runs.items())
        if (run.contains("num_steps")) check_run(m, io, name, run);
    }
}
