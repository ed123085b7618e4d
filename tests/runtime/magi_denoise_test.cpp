// The denoising loop of a tiny MAGI-1 model: what reuse does to latents, given frames, resumed runs, resident keys,
// policies.
#include "runtime/magi_denoise.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>

#include <limits>

#include "base/error.h"
#include "models/ops/patches.h"
#include "tests/catch.h"
#include "tests/forged_state.h"
#include "tests/refused.h"
#include "tests/runtime/magi_tiny_video.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using test::Output;
using test::TinyVideo;

namespace {

// Computes what it is told for each of a chunk's steps, and all tokens in steps without an entry.
class Scripted final : public CachePolicy {
 public:
  explicit Scripted(std::map<int, TokenSet> sets, int residuals = 1) : sets_(std::move(sets)), residuals_(residuals) {}
  std::vector<Decision> decide(const StepContext& context) override {
    const auto found = sets_.find(context.step);
    return {{.tokens = found == sets_.end() ? TokenSet::all() : found->second}};
  }
  int residuals() const override { return residuals_; }
  std::string preview(int steps) const override { return std::string(steps, '?'); }

 private:
  std::map<int, TokenSet> sets_;
  int residuals_;
};

std::map<int, TokenSet> from_step(int step, const TokenSet& set) {
  std::map<int, TokenSet> sets;
  for (int s = step; s < 8; ++s) sets.emplace(s, set);
  return sets;
}

double largest(const at::Tensor& x) { return at::abs(x).max().item<double>(); }

// A state as it is read back from a file: tensors of its own.
State copy_of(const State& state) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, tensor] : state.tensors()) tensors[name] = tensor.clone();
  return State(std::move(tensors), "test");
}

}  // namespace

TEST_CASE("MAGI-1: policies that never save give the bits of causal, and count the same FLOPs") {
  for (const auto& [distilled, dtype] : {std::pair{false, at::kFloat}, {false, at::kBFloat16}, {true, at::kFloat}}) {
    const TinyVideo video(distilled, 5, dtype);
    const Output plain = video.run("causal");
    CHECK(plain.stats.total().flops_saved == 0);
    for (const std::string policy :
         {"teacache:threshold=0", "flowcache:threshold=0", "motioncache:threshold=0,tokens=off",
          "motioncache:threshold=0,token_threshold=0,chunk_steps=1,warmup=0"}) {
      INFO(policy);
      const Output full = video.run(policy);
      CHECK(at::equal(full.latents, plain.latents));
      CHECK(full.stats.total().flops == plain.stats.total().flops);
      CHECK(full.stats.total().flops_saved == 0);
    }
  }
}

TEST_CASE("MAGI-1: spent and saved FLOPs add up to those of causal") {
  const bool distilled = GENERATE(false, true);
  const TinyVideo video(distilled);
  const WorkCount all = video.run("causal").stats.total(), none = video.run("none").stats.total();
  CHECK(none.flops > all.flops);
  for (const std::string& policy : distilled ? test::kSavingLatentPolicies : test::kSavingOnBase) {
    INFO(policy);
    const Output some = video.run(policy);
    const WorkCount total = some.stats.total();
    CHECK(total.recomputed + total.reused + total.predicted == all.recomputed);
    CHECK((policy.find("predict") == std::string::npos ? total.reused : total.predicted) > 0);
    CHECK(total.recomputed > 0);
    CHECK(std::abs(total.flops + total.flops_saved - all.flops) < 1e-6 * all.flops);
    int64_t recomputed = 0;
    bool partial = false;
    for (const DecisionRecord& d : some.decisions) {
      recomputed += d.recomputed;
      partial = partial || (d.recomputed > 0 && d.recomputed < d.tokens);
    }
    if (distilled) CHECK(recomputed == total.recomputed);  // a base model computes each in several branches
    CHECK(partial == policy.starts_with("motioncache"));
  }
}

TEST_CASE("MAGI-1: runs go on behind any row to the same bits") {
  const auto check = [](TinyVideo& video, const std::string& policy) {
    INFO(policy);
    std::vector<State> states;
    video.hooks.on_row_end = [&](const RowEnd& end) { states.push_back(copy_of(end.state())); };
    const Output whole = video.run(policy);
    video.hooks.on_row_end = {};
    for (size_t row = 0; row < states.size(); row += 3) {
      const Output rest = video.run(policy, &states[row]);
      CHECK(at::equal(rest.latents, whole.latents));
      CHECK(rest.stats.total().flops == whole.stats.total().flops);
    }
    auto tensors = states[0].tensors();
    tensors["row"] = at::full({1}, 1000, at::kLong);
    const State broken(tensors, "test");
    CHECK_THAT(refused([&] { video.run(policy, &broken); }), ContainsSubstring("row 1000"));
  };
  TinyVideo base(false, 3), distilled(true, 3), bf16(true, 3, at::kBFloat16);
  check(bf16, "none");
  check(bf16, test::kSavingLatentPolicies[2]);
  check(base, "none");
  check(base, "flowcache:warmup=0,threshold=0.05");
  check(base, test::kSavingOnBase[2]);
  check(distilled, "none");
  for (const std::string& policy : test::kSavingLatentPolicies) check(distilled, policy);
  distilled.prefix = at::randn({4, 3, 6, 4});
  check(distilled, "none");
  check(distilled, test::kSavingLatentPolicies[2]);
  distilled.parity = true;
  check(distilled, test::kSavingLatentPolicies[2]);
}

TEST_CASE("MAGI-1: a state with one entry of another shape or dtype is refused and says which file") {
  TinyVideo video(true, 3);
  const std::string policy = GENERATE(from_range(test::kSavingLatentPolicies), std::string("none"));
  INFO(policy);
  std::vector<State> states;
  video.hooks.on_row_end = [&](const RowEnd& end) { states.push_back(reread(end.state())); };
  video.run(policy);
  video.hooks.on_row_end = {};
  for (const size_t row : {size_t{0}, states.size() / 2}) {
    for (const Forgery& forged : forgeries(states[row])) {
      INFO("row " << row << ", " << forged.entry << " with " << forged.how);
      CHECK_THAT(refused([&] { video.run(policy, &forged.state); }), ContainsSubstring("file: '"));
    }
    State other({}, "file");
    for (const auto& [name, tensor] : states[row].tensors()) other.put(name, name.ends_with("held") ? tensor + 1 : tensor);
    CHECK_FALSE(refused([&] { video.run(policy, &other); }).empty());
  }
}

TEST_CASE("MAGI-1: only keys that somebody still attends to are held") {
  TinyVideo video(true, 9);
  const RunStats stats = video.run("none").stats;
  // Four chunks in flight and the finished one before them.
  CHECK(stats.kv_bytes == stats.kv_full_bytes / 9 * 5);
  CHECK(stats.mean_kv_bytes() < static_cast<double>(stats.kv_bytes));
  video.config.run.key_chunks = {};
  CHECK(video.run("none").stats.kv_bytes == stats.kv_full_bytes);
}

TEST_CASE("MAGI-1: one text under several prompts is one prompt, and another one changes nothing before it") {
  for (const bool distilled : {false, true}) {
    TinyVideo video(distilled);
    const at::Tensor one = video.run("none").latents;
    const at::Tensor text = video.captions[0], other = video.captions[1];
    video.captions = {text, text.clone(), text.clone()};
    video.prompt_of = {0, 1, 1, 2, 2};
    CHECK(at::equal(video.run("none").latents, one));
    // Chunk 3 is in flight together with those before it.
    video.captions = {text, other};
    video.prompt_of = {0, 0, 0, 1, 1};
    const at::Tensor changed = video.run("none").latents;
    CHECK(at::equal(changed.narrow(1, 0, 6), one.narrow(1, 0, 6)));
    for (const int chunk : {3, 4}) CHECK(largest(changed.narrow(1, 2 * chunk, 2) - one.narrow(1, 2 * chunk, 2)) > 1e-3);
    video.prompt_of = {0, 0, 0};
    CHECK_THROWS_AS(video.run("none"), Error);
  }
}

TEST_CASE("MAGI-1: given frames come back as they were given") {
  for (const int given : {1, 2, 5}) {
    TinyVideo video(true, 3);
    video.prefix = at::randn({4, given, 6, 4});
    std::vector<at::Tensor> emitted;
    video.hooks.on_row_end = [&](const RowEnd& end) {
      for (const int chunk : end.finished) {
        const KeyRange frames = video.settings().size.emitted(chunk);
        emitted.push_back(end.latents.slice(1, frames.begin, frames.end).clone());
      }
    };
    const Output out = video.run("none");
    CHECK(at::equal(out.latents.narrow(1, 0, given), video.prefix));
    // An image is shown, a video is not.
    const at::Tensor all = at::cat(emitted, 1);
    CHECK(at::equal(all, out.latents.narrow(1, given == 1 ? 0 : given, all.size(1))));
    CHECK(all.size(1) == out.latents.size(1) - (given == 1 ? 0 : given));
    video.hooks.on_row_end = {};
    video.parity = true;
    const at::Tensor moved = video.run("none").latents;
    const int64_t denoised = given / 2 * 2;  // frames of whole prefix chunks never move
    CHECK(at::equal(moved.narrow(1, 0, denoised), video.prefix.narrow(1, 0, denoised)));
    if (given > denoised) CHECK_FALSE(at::equal(moved.narrow(1, 0, given), video.prefix));
    CHECK(at::equal(moved.narrow(1, given, 6 - given), out.latents.narrow(1, given, 6 - given)));
  }
}

TEST_CASE("MAGI-1: a reused chunk goes on along its last velocity, in parity mode by its last displacement") {
  const TinyVideo video(true, 1);
  const int last = 3;  // computed step
  magi::VideoSettings settings = video.settings();
  std::vector<at::Tensor> after;
  TinyVideo watched(true, 1);
  watched.captions = video.captions;
  watched.hooks.on_row_end = [&](const RowEnd& end) { after.push_back(end.latents.clone()); };
  for (const bool displacement : {false, true}) {
    after.clear();
    settings.quirks.displacement = displacement;
    Scripted policy(from_step(last + 1, TokenSet::none()));
    const Output out = watched.run(policy, settings);
    const auto t = magi::time_grid(settings.schedule);
    const at::Tensor moved = after[last] - after[last - 1];
    const double times = displacement ? 7 - last : (t[8] - t[last + 1]) / (t[last + 1] - t[last]);
    CHECK(largest(out.latents - (after[last] + moved * times)) < 1e-4);
    CHECK(out.stats.total().reused == (7 - last) * out.decisions[0].tokens);
  }
}

namespace {

// Remembers what it is shown: (chunk, step) -> embedded latents, and what was observed after the row.
class Watching final : public CachePolicy {
 public:
  std::map<std::pair<int, int>, at::Tensor> inputs, observed;
  int prefix_chunks = 0;

  void input(const StepContext& context, const at::Tensor& embedded) override {
    CHECK(embedded.sizes() == at::IntArrayRef({2, 6, 64}));
    inputs[{context.chunk, context.step}] = embedded;
  }
  std::vector<Decision> decide(const StepContext& context) override {
    CHECK(inputs.contains({context.chunk, context.step}));
    return {{}};
  }
  void observe(const StepContext& context, int, const at::Tensor& latents) override {
    CHECK(latents.sizes() == at::IntArrayRef({2, 6, 16}));
    prefix_chunks += context.prefix;
    observed[{context.chunk, context.step}] = latents.clone();
  }
  int residuals() const override { return 0; }
  std::string preview(int steps) const override { return std::string(steps, 'F'); }
};

}  // namespace

TEST_CASE("MAGI-1: policies see embedded latents before a row, and after it what they will be when clean") {
  TinyVideo video(true, 2);
  video.prefix = at::randn({4, 2, 6, 4});
  std::vector<at::Tensor> after;
  video.hooks.on_row_end = [&](const RowEnd& end) { after.push_back(end.latents.clone()); };
  const auto rows_of = [](const at::Tensor& latents, int chunk) {
    return patch_rows(latents.narrow(1, 2 * chunk, 2)).view({2, 6, 16});
  };
  for (const bool noisy : {false, true}) {
    after.clear();
    magi::VideoSettings settings = video.settings();
    settings.quirks.noisy_motion = noisy;
    Watching policy;
    const Output out = video.run(policy, settings);
    CHECK(policy.prefix_chunks == 1);
    CHECK(at::equal(policy.observed[{0, 8}], rows_of(video.prefix, 0)) == !noisy);
    // When a chunk's last step is done, nothing is left to go.
    for (const int chunk : {1, 2}) CHECK(largest(policy.observed[{chunk, 7}] - rows_of(out.latents, chunk)) < 1e-4);
    CHECK(at::equal(policy.observed[{1, 0}], rows_of(after[1], 1)) == noisy);
    CHECK(policy.inputs.size() == 16);
  }
}

TEST_CASE("MAGI-1: base=none keeps the clean passes and copies") {
  const TinyVideo video(true);
  const Output none = video.run("none");
  const Output kept = video.run("flowcache:base=none,threshold=0");
  CHECK(at::equal(kept.latents, none.latents));
  CHECK(kept.stats.total().flops == none.stats.total().flops);
  CHECK(video.run("flowcache:base=none,warmup=0,threshold=0.05").stats.total().reused > 0);
}

TEST_CASE("MAGI-1: a list of all tokens is the whole chunk, bit for bit") {
  const TinyVideo video(true, 3);
  magi::VideoSettings settings = video.settings();
  settings.schedule.nearly_clean_copy = false;
  Scripted all({}), list(from_step(1, TokenSet::list(at::arange(12, at::kLong))));
  CHECK(at::equal(video.run(list, settings).latents, video.run(all, settings).latents));
}

TEST_CASE("MAGI-1: chosen tokens take new velocities and attend to their own chunk; the rest keep theirs") {
  const TinyVideo video(true, 2);
  magi::VideoSettings settings = video.settings();
  settings.schedule.clean_pass = false;
  const at::Tensor columns = at::arange(0, 6, 2, at::kLong);
  const auto run = [&](bool copies, magi::Quirks quirks) {
    settings.schedule.nearly_clean_copy = copies;
    settings.quirks = quirks;
    Scripted policy(from_step(4, TokenSet::columns(columns)));
    return video.run(policy, settings).latents;
  };
  Scripted reuse(from_step(4, TokenSet::none()));
  settings.schedule.nearly_clean_copy = false;
  const at::Tensor kept = video.run(reuse, settings).latents, some = run(false, {});
  // Columns 0, 2, 4 of a grid of 3x2 are its left half. Later chunks attend to the first, whose keys have changed.
  const auto left = [](const at::Tensor& x) { return x.narrow(1, 0, 2).narrow(3, 0, 2); };
  const auto right = [](const at::Tensor& x) { return x.narrow(1, 0, 2).narrow(3, 2, 2); };
  CHECK(at::equal(right(some), right(kept)));
  CHECK_FALSE(at::equal(left(some), left(kept)));
  // The first chunk in flight has its own keys either way, as long as it is the first.
  const at::Tensor other_keys = run(false, {.first_chunks_keys = true});
  CHECK(at::equal(other_keys.narrow(1, 0, 2), some.narrow(1, 0, 2)));
  CHECK_FALSE(at::equal(other_keys.narrow(1, 2, 2), some.narrow(1, 2, 2)));
  // A copy is whole, and blended where the chunk was computed; the fork blends it in everywhere.
  const at::Tensor blended = run(true, {});
  CHECK(at::equal(right(blended), right(kept)));
  CHECK_FALSE(at::equal(right(run(true, {.diluted_copies = true})), right(kept)));
}

TEST_CASE("MAGI-1: a chunk's prompt changes that chunk and later ones") {
  TinyVideo video(true, 3);
  const at::Tensor one = video.run("none").latents;
  video.prompt_of = {0, 0, 1};
  const at::Tensor two = video.run("none").latents;
  CHECK(at::allclose(two.narrow(1, 0, 4), one.narrow(1, 0, 4), 1e-4, 1e-5));
  CHECK(largest(two.narrow(1, 4, 2) - one.narrow(1, 4, 2)) > 1e-3);
}

TEST_CASE("MAGI-1: a base model's chosen tokens take new guided velocities, and the rest keep theirs") {
  TinyVideo video(false, 1);
  magi::VideoSettings settings = video.settings();
  settings.own_keys = true;
  std::vector<at::Tensor> after;
  video.hooks.on_row_end = [&](const RowEnd& end) { after.push_back(end.latents.clone()); };
  const int step = 3;  // all three branches are guided by
  const auto run = [&](const TokenSet& set) {
    after.clear();
    Scripted policy({{step, set}});
    video.run(policy, settings);
    return after[step] - after[step - 1];
  };
  const at::Tensor whole = run(TokenSet::all()), kept = run(TokenSet::none());
  const at::Tensor some = run(TokenSet::columns(at::arange(0, 6, 2, at::kLong)));  // the left half
  CHECK(at::equal(some.narrow(3, 2, 2), kept.narrow(3, 2, 2)));
  const at::Tensor computed = some.narrow(3, 0, 2), wanted = whole.narrow(3, 0, 2);
  CHECK_FALSE(at::equal(computed, kept.narrow(3, 0, 2)));
  // They see a half that is one step old, and still come nearer to those of the whole chunk than what was kept.
  CHECK((computed - wanted).norm().item<double>() < (kept.narrow(3, 0, 2) - wanted).norm().item<double>());
  // Without keys of their own the branches cannot do it.
  settings.own_keys = false;
  CHECK_THROWS_AS(run(TokenSet::columns(at::arange(0, 6, 2, at::kLong))), Error);
}

TEST_CASE("MAGI-1: help lists the policies on latents with their own keys") {
  const std::string text = describe_policies(PolicyFamily::latent);
  for (const std::string word : {"none", "causal", "teacache", "flowcache", "motioncache", "chunk_steps", "base"})
    CHECK_THAT(text, ContainsSubstring(word));
  for (const std::string word : {"driftcache", "phase1", "distance of", "calibrate"})
    CHECK(text.find(word) == std::string::npos);
}

TEST_CASE("MAGI-1: what a run refuses") {
  TinyVideo base(false, 2);
  base.parity = true;
  CHECK_THROWS_WITH(base.run("motioncache"), ContainsSubstring("with distilled models alone"));
  CHECK_NOTHROW(base.run("motioncache:tokens=off,warmup=0,threshold=0.05"));
  base.parity = false;
  CHECK_NOTHROW(base.run("motioncache:tokens=off,warmup=0,threshold=0.05"));
  CHECK_THROWS_WITH(base.run("motioncache:phase1=3"), ContainsSubstring("has no key 'phase1'"));
  CHECK_THROWS_WITH(base.run("driftcache"), ContainsSubstring("there is no policy 'driftcache'"));
  // Nothing to reuse at the first step, and nothing kept at all.
  TinyVideo video(true, 2);
  Scripted first({{0, TokenSet::none()}}), nothing({{3, TokenSet::none()}}, 0);
  CHECK_THROWS_AS(video.run(first, video.settings()), Error);
  CHECK_THROWS_AS(video.run(nothing, video.settings()), Error);
  video.prefix = at::full({4, 1, 6, 4}, std::numeric_limits<float>::quiet_NaN());
  CHECK_THROWS_WITH(video.run("none"), ContainsSubstring("not finite"));
}
