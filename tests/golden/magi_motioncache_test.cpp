// MotionCache on MAGI-1 against its fork, in parity mode: every decision with its tokens, accumulators and distances,
// motion weights, and the latents of whole runs.
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "cache/latent_motioncache.h"
#include "runtime/magi_policies.h"
#include "tests/golden/magi_runs.h"

using namespace longtake;

namespace {

constexpr double kUndecided = 1e-4;  // accumulators this near to their threshold may fall to either side

LatentMotionCacheSettings policy_settings(const nlohmann::json& s) {
  LatentMotionCacheSettings p;
  p.threshold = s.at("rel_l1_thresh");
  p.token_threshold = s.at("token_rel_l1_thresh");
  p.warmup = s.at("warmup_steps").get<int>() - 1;
  p.chunk_steps = s.at("chunk_wise_only_steps");
  p.tokens = s.at("token_wise_reuse");
  p.floor = s.at("temporal_weight_floor");
  p.power = s.at("temporal_weight_power");
  p.own_distance = s.at("tokenwise_l1_mode") == "token";
  p.first_weights = s.at("compute_l1_weights_once");
  const auto share = [&](const char* name) {
    return s.at(name).is_null() ? s.at("max_token_reuse_ratio") : s.at(name);
  };
  p.reuse_first = share("initial_token_reuse_ratio");
  p.reuse_last = share("final_token_reuse_ratio");
  p.vote = s.at("enable_temporal_voting");
  p.carry = p.last_step = p.decide_last_row = p.compared_first_frame = false;
  return p;
}

// A number in hexadecimal whose bit p is token p.
at::Tensor mask_of(const std::string& hex, int64_t tokens) {
  const at::Tensor mask = at::zeros({tokens}, at::kBool);
  for (int64_t p = 0; p < std::min<int64_t>(tokens, 4 * static_cast<int64_t>(hex.size())); ++p)
    mask[p] = (std::stoi(hex.substr(hex.size() - 1 - p / 4, 1), nullptr, 16) >> (p % 4) & 1) != 0;
  return mask;
}

bool near(double a, double b) { return std::abs(a - b) <= 1e-3 * std::max(std::abs(b), 1e-6); }

struct Comparison {
  int decisions = 0, undecided = 0;
  double worst_distance = 0;

  // Whether the decision is the fork's. whole: the fork counts a partial computation as one of the whole chunk.
  bool add(const nlohmann::json& wanted, const DecisionRecord& d, const LatentMotionCache::ChunkState& state,
           bool whole) {
    INFO(wanted.dump());
    ++decisions;
    const std::string kind = d.recomputed == 0 ? "reuse" : d.recomputed == d.tokens || whole ? "full" : "partial";
    CHECK(wanted.at("k") == d.step);
    const bool close = std::abs(wanted.value("margin", 1.0)) < kUndecided;
    bool same = kind == wanted.at("kind");
    if (same && kind == "partial") {
      same = d.decision.tokens.mask(d.frames, d.plane, at::kCPU)
                 .flatten()
                 .equal(mask_of(wanted.at("computed_mask"), d.tokens));
    }
    if (!same && close) ++undecided;
    CHECK((same || close));
    if (same && d.decision.distance > 0) {
      const double distance = wanted.at("distance");
      worst_distance = std::max(worst_distance, std::abs(d.decision.distance - distance) / distance);
      bool numbers =
          near(state.gathered, d.decision.phase == Phase::token ? 0.0 : wanted.at("chunk_accumulator").get<double>());
      if (wanted.contains("token_accumulator_sum") && state.by_token.defined())
        numbers = numbers && near(state.by_token.sum().item<double>(), wanted.at("token_accumulator_sum"));
      CHECK(numbers);
    }
    return same;
  }
};

void check_run(const golden::MagiModel& m, const Checkpoint& io, const std::string& name, const nlohmann::json& run) {
  INFO(name);
  const auto& fork = run.at("settings");
  magi::VideoSettings settings = magi::VideoSettings::of(m.configured(run), run.at("prefix_latent_frames"));
  settings.schedule.clean_pass = false;
  settings.schedule.nearly_clean_copy = !fork.at("discard_nearly_clean_chunk");
  settings.quirks = {.moved_prefix = true,
                     .displacement = true,
                     .first_chunks_keys = run.at("partial_update_keys").get<std::string>().starts_with("first"),
                     .diluted_copies = true,
                     .noisy_motion = true};
  const magi::VideoTexts texts(*m.transformer, {io.tensor("mot.caption")}, {}, {},
                               {.high_quality = false, .duration = false}, settings.size);
  const bool given = io.contains(name + ".prefix");
  const at::Tensor noise = io.tensor(given ? name + ".noise" : "mot.noise");
  const auto backbone = m.backbone(texts, settings.size, noise.size(2), noise.size(3));

  LatentMotionCache policy(policy_settings(fork));
  Comparison comparison;
  bool same = true;  // all decisions up to here
  int emitted = 0;
  const int first_row = given ? 1 : 0;  // the row of the prefix is no step of the fork's list
  int64_t computed = 0, tokens = 0;
  DenoiseHooks hooks;
  hooks.on_decision = [&](const DecisionRecord& d) {
    if (!d.update) return;
    const auto& step = run.at("steps").at(d.row - first_row);
    const int first = step.at("first_chunk");
    const bool whole = settings.schedule.nearly_clean_copy && step.at("nearly_clean") && d.chunk == first;
    same = comparison.add(step.at("chunks").at(d.chunk - first), d, policy.chunk(d.chunk), whole) && same;
    computed += whole && d.recomputed > 0 ? d.tokens : d.recomputed;
    tokens += d.tokens;
  };
  hooks.on_row_end = [&](const RowEnd& end) {
    const std::string weights = fmt::format("{}.motion_weights_after_step{}", name, end.row - first_row);
    if (io.contains(weights)) {
      const auto& step = run.at("steps").at(end.row - first_row);
      for (int c = step.at("first_chunk"); c < std::min(step.at("end_chunk").get<int>(), settings.size.chunks); ++c)
        CHECK(golden::within(weights, policy.chunk(c).weight, io.tensor(weights).narrow(0, 6 * c, 6), 1e-3));
    }
    for (const int chunk : end.finished) {
      const KeyRange frames = settings.size.emitted(chunk);
      const std::string key = fmt::format("{}.chunk{}", name, emitted++);
      if (same) CHECK(golden::within_norm(key, end.latents.slice(1, frames.begin, frames.end), io.tensor(key), 1e-3));
    }
  };
  golden::GivenNoise start(noise);
  RunStats stats;
  magi::denoise_video(backbone, policy, settings, given ? io.tensor(name + ".prefix") : at::Tensor(), start, at::kCPU,
                      stats, hooks);
  CHECK(emitted == static_cast<int>(run.at("emitted").size()));
  if (same) CHECK(computed == run.at("totals").at("tokens_computed"));
  CHECK(tokens == run.at("totals").at("tokens_all"));
  fmt::print("  {}: {} decisions, {} on the other side of a threshold nearer than {}, distances to {:.1e}\n", name,
             comparison.decisions, comparison.undecided, kUndecided, comparison.worst_distance);
}

}  // namespace

TEST_CASE("MotionCache on MAGI-1 repeats its fork, quirks included", "[golden]") {
  const auto root = golden::magi();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  const golden::MagiModel m(root, "distill", {});
  const Checkpoint io = Checkpoint::open(root / "distill" / "mot_runs.safetensors");
  std::ifstream stream(root / "distill" / "mot_runs.json");
  const auto runs = nlohmann::json::parse(stream);
  for (const auto& [name, run] : runs.items())
    if (name != "_all") check_run(m, io, name, run);
}

// 64 steps, 168 frames, the released settings but for a threshold that shows the difference: how far runs end from causal.
namespace {

class WholeRuns {
 public:
  WholeRuns(const std::filesystem::path& root, const std::string& set)
      : model_(root, set, {}), caption_(Checkpoint::open(root / "distill" / "mot_runs.safetensors").tensor("mot.caption")) {
    model_.config.run.steps = 64;
    model_.config.run.window = 4;
    model_.config.run.frames = 168;
    causal_ = run("causal", false).first;
  }

  // And the share of FLOPs spent.
  std::pair<double, double> distance(const std::string& name, const std::string& policy, bool parity = false,
                  const std::function<void(magi::Quirks&)>& correct = {}) const {
    const auto [latents, share] = run(policy, parity, correct);
    const double error = golden::norm_error(latents, causal_);
    fmt::print("  {:<50} recomputed {:4.1f} %, {:.4f} from causal\n", name, 100 * share, error);
    return {error, share};
  }

 private:
  // Final latents, and the share of FLOPs spent.
  std::pair<at::Tensor, double> run(const std::string& policy_text, bool parity,
                                    const std::function<void(magi::Quirks&)>& correct = {}) const {
    const PolicyChoice choice = choose_policy(parse_policy(policy_text), parity, PolicyFamily::latent);
    magi::VideoSettings settings = magi::VideoSettings::of(model_.config, 0);
    magi::set_up(settings, choice);
    if (correct) correct(settings.quirks);
    const magi::VideoTexts texts(*model_.transformer, {caption_}, {}, {}, {.high_quality = false, .duration = false},
                                 settings.size);
    const auto backbone = model_.backbone(texts, settings.size, 6, 8, settings.own_keys);
    PhiloxNoise noise(7);
    RunStats stats;
    const auto policy = make_latent_policy(choice);
    const at::Tensor latents = magi::denoise_video(backbone, *policy, settings, {}, noise, at::kCPU, stats);
    return {latents, 1 - stats.total().saved_share()};
  }

  golden::MagiModel model_;
  at::Tensor caption_, causal_;
};

}  // namespace

// The fork's quirks one after another.
TEST_CASE("MotionCache on MAGI-1 stays nearer to causal than its fork", "[golden]") {
  const auto root = golden::magi();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  const WholeRuns runs(root, "distill");
  runs.distance("none", "none");
  for (const std::string threshold : {"0.0065", "0.015", "0.03"}) {
    const std::string text = fmt::format("motioncache:threshold={0},token_threshold={0}", threshold);
    const double as_fork = runs.distance(threshold + ", as the fork", text, true).first;
    runs.distance(threshold + ", with each chunk's own keys", text, true, [](magi::Quirks& q) { q.first_chunks_keys = false; });
    runs.distance(threshold + ", and velocities reused", text, true,
                  [](magi::Quirks& q) { q.first_chunks_keys = q.displacement = false; });
    const double corrected = runs.distance(threshold + ", all corrections", text).first;
    CHECK(corrected < as_fork / 2);
  }
}

TEST_CASE("MotionCache decides per token on a MAGI-1 base model", "[golden]") {
  const auto root = golden::magi();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  const WholeRuns runs(root, "base");
  runs.distance("none", "none");
  for (const std::string threshold : {"0.015", "0.03"}) {
    const std::string values = fmt::format("threshold={0},token_threshold={0}", threshold);
    const auto [tokens, token_share] = runs.distance(threshold + ", per token", "motioncache:" + values);
    const auto [chunks, chunk_share] = runs.distance(threshold + ", whole chunks", "motioncache:tokens=off," + values);
    CHECK(tokens < chunks);
    CHECK(token_share < chunk_share);
  }
}
