// What is refused when a window goes on from a state that is not its own, though a file that holds it is whole.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include <limits>

#include "runtime/policies.h"
#include "tests/catch.h"
#include "tests/forged_state.h"
#include "tests/refused.h"
#include "tests/runtime/tiny_run.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

// The second window of a tiny run: a prefix and three chunks.
struct Window {
  TinyModel model;
  TinyGeometry size{.height = 4, .width = 4, .frames = {1, 1, 2, 1}, .steps = 5, .windows = 1};
  std::string policy = "causal", kv = "full";
  bool parity = false;

  // Goes on from `resume` where that is given. Keeps a copy of the state behind every row.
  at::Tensor run(const State* resume, std::vector<State>* states = nullptr) const {
    const PolicyChoice choice = choose_policy(parse_policy(policy), parity);
    DenoiseSettings settings;
    settings.attention = choice.attention;
    settings.kv = choose_kv(kv, choice.attention);
    settings.prefix_noise = 20;
    settings.noise_every_row = settings.overwritten_first_sample = parity;
    const WindowGeometry geometry = window_of(size);
    const auto backbone = model.backbone(geometry);
    const std::unique_ptr<CachePolicy> decisions = tiny_policy(model, choice, size);
    const std::unique_ptr<NoiseSource> noise = parity ? std::unique_ptr<NoiseSource>(std::make_unique<TorchNoise>(5, 5)) : std::make_unique<PhiloxNoise>(5);
    const Schedule schedule(flow_timesteps(size.steps, 8), static_cast<int>(size.frames.size()), 1, 1);
    DenoiseHooks hooks;
    if (states) hooks.on_row_end = [&](const RowEnd& end) { states->push_back(reread(end.state())); };
    RunStats stats;
    if (!resume) noise->latents(0, {16, 1, 1, 1});
    const at::Tensor latents = noise->latents(resume ? 0 : 1, {16, geometry.frames(), size.height, size.width});
    return denoise_window(*backbone, *decisions, schedule, UniPc(size.steps, 8), settings, 1, latents, *noise, stats, hooks, resume);
  }
};

}  // namespace

TEST_CASE("a state with one entry of another shape or dtype is refused and says which file") {
  Window window;
  std::string policy;
  for (const std::string& saving : kSavingPolicies)
    SECTION(saving) { window.policy = saving; }
  SECTION("causal") {}
  SECTION("none") { window.policy = "none"; }
  SECTION("parity") {
    window.policy = "motioncache:slow,warmup=0,phase1=1,threshold=0.3,min_ratio=0";
    window.parity = true;
  }
  SECTION("stream") { window.kv = "stream:1"; }
  SECTION("r1kv") { window.kv = "r1kv:budget=0.5"; }
  SECTION("merge") { window.kv = "merge:d=1.2"; }
  std::vector<State> states;
  const at::Tensor whole = window.run(nullptr, &states);
  REQUIRE(states.size() > 6);
  // Behind the first row little is there; later all that there ever is.
  for (const size_t row : {size_t{0}, states.size() / 2, states.size() - 2}) {
    CHECK(at::equal(window.run(&states[row]), whole));
    for (const Forgery& forged : forgeries(states[row])) {
      INFO("row " << row << ", " << forged.entry << " with " << forged.how);
      CHECK_THAT(refused([&] { window.run(&forged.state); }), ContainsSubstring("file: '"));
    }
  }
}

TEST_CASE("a state whose numbers do not belong to its row is refused") {
  Window window;
  window.policy = "motioncache:slow,warmup=0,phase1=0,threshold=0.3,min_ratio=0";
  window.parity = true;
  std::vector<State> states;
  window.run(nullptr, &states);
  const auto with = [&](const std::string& entry, const std::optional<std::vector<int64_t>>& values) {
    State changed({}, "file");
    for (const auto& [name, tensor] : states[3].tensors())
      if (name != entry) changed.put(name, tensor);
    if (values) changed.put_integers(entry, *values);
    return refused([&] { window.run(&changed); });
  };
  CHECK_THAT(with("row", std::vector<int64_t>{1000}), ContainsSubstring("row 1000"));
  CHECK_THAT(with("solver/1/step", std::vector<int64_t>{2}), ContainsSubstring("'solver/1/step' should be 4, found 2"));
  CHECK_THAT(with("solver/1/m2", std::nullopt), ContainsSubstring("'solver/1/m2' is missing"));
  CHECK_THAT(with("noise/drawn", std::vector<int64_t>{2, 1, 1}), ContainsSubstring("'noise/drawn' should lead to window 2, and to window 1 and row 4"));
  CHECK_THAT(with("noise/drawn", std::vector<int64_t>{1, 1, 3}), ContainsSubstring("found 1 and"));
  CHECK_THAT(with("policy/weight/1/0", std::nullopt), ContainsSubstring("'policy/weight/1/0' is missing"));
  CHECK_THAT(with("policy/chunks", std::vector<int64_t>{1, 1}), ContainsSubstring("each once, found 1"));
  CHECK_THAT(with("policy/chunks", std::vector<int64_t>{int64_t{1} << 40}), ContainsSubstring("'policy/chunks' should list chunks"));
  CHECK_THAT(with("residual/keys", std::vector<int64_t>{1, 2}), ContainsSubstring("their 2 branches"));
}

TEST_CASE("a state whose timesteps are none is refused") {
  Window window;
  window.policy = "teacache:ret=2,distance=linear,threshold=0.6";
  std::vector<State> states;
  window.run(nullptr, &states);
  for (const double t : {-1.0, 1e300, std::numeric_limits<double>::quiet_NaN()}) {
    State changed({}, "file");
    for (const auto& [name, tensor] : states[3].tensors())
      if (name != "policy/timesteps") changed.put(name, tensor);
    changed.put_numbers("policy/timesteps", {0, 1, 2, t});
    CHECK_THAT(refused([&] { window.run(&changed); }), ContainsSubstring("'policy/timesteps' should hold numbers of 0 ... 1000"));
  }
}
