// K/V compression on the tiny model.
#include "runtime/kv_choice.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include "tests/catch.h"
#include "tests/runtime/tiny_run.h"

using namespace longtake;

namespace {

TinyRun with_kv(const TinyModel& model, const std::string& kv, const std::string& policy = "causal", const TinyGeometry& g = {}) {
  const PolicyChoice choice = choose_policy(parse_policy(policy), false);
  DenoiseSettings settings;
  settings.kv = choose_kv(kv, choice.attention);
  return tiny_run(model, *tiny_policy(model, choice, g), choice.attention, g, settings);
}

}  // namespace

TEST_CASE("compression that keeps everything is full attention to the last bit") {
  const TinyModel model;
  const std::string caching = kSavingPolicies.front();
  for (const std::string& policy : {std::string("causal"), caching}) {
    const TinyRun full = with_kv(model, "full", policy);
    CHECK(full.stats.kv_bytes == full.stats.kv_full_bytes);
    for (const std::string kv : {"stream:4", "r1kv:budget=4"}) {
      INFO(policy << " " << kv);
      const TinyRun run = with_kv(model, kv, policy);
      CHECK(at::equal(full.latents, run.latents));
      CHECK(run.stats.kv_bytes == full.stats.kv_bytes);
      CHECK(run.stats.total().flops == full.stats.total().flops);
    }
  }
}

TEST_CASE("merging keys that differ changes nothing but rounding") {
  const TinyModel model;
  const at::Tensor full = with_kv(model, "full").latents, merged = with_kv(model, "merge:d=0").latents;
  CHECK((full - merged).abs().max().item<double>() < 1e-4 * full.abs().max().item<double>());
}

TEST_CASE("compression saves bytes and FLOPs, changes the result, and repeats") {
  const TinyModel model;
  for (const std::string& policy : {std::string("causal"), kSavingPolicies[1]}) {
    const TinyRun full = with_kv(model, "full", policy);
    for (const std::string kv : {"stream:0", "stream:1", "r1kv:budget=0.5", "r1kv:budget=0.5,per_head=off,queries=all,pool=1", "merge:d=1.5"}) {
      INFO(policy << " " << kv);
      const TinyRun run = with_kv(model, kv, policy);
      CHECK_FALSE(at::equal(full.latents, run.latents));
      CHECK(run.latents.isfinite().all().item<bool>());
      CHECK(run.stats.total().flops < full.stats.total().flops);
      CHECK(run.stats.mean_kv_bytes() < full.stats.mean_kv_bytes());
      CHECK(run.stats.kv_full_bytes == full.stats.kv_full_bytes);
    }
  }
  CHECK(at::equal(with_kv(model, "r1kv:budget=0.5").latents, with_kv(model, "r1kv:budget=0.5").latents));
  // Where the first chunk finishes before the last one starts, the most that is held is less too.
  const TinyGeometry few{.steps = 4};
  for (const std::string kv : {"stream:0", "r1kv:budget=0.5"})
    CHECK(with_kv(model, kv, "causal", few).stats.kv_bytes < with_kv(model, "full", "causal", few).stats.kv_bytes);
}

TEST_CASE("compressions are chosen by name, and what makes no sense is refused with the reason") {
  const auto refused = [](const char* text, const char* what, AttentionScheme attention = AttentionScheme::causal) {
    INFO(text);
    CHECK_THROWS_WITH(choose_kv(text, attention), Catch::Matchers::ContainsSubstring(what));
  };
  refused("steam:2", "did you mean 'stream'");
  refused("stream", "such as stream:2");
  refused("stream:two", "whole number of chunks");
  refused("stream:1,budget=2", "takes no keys");
  refused("r1kv:2", "KEY=VALUE");
  refused("r1kv:budgit=2", "did you mean 'budget'");
  refused("r1kv:budget=0", "between 0.01");
  refused("r1kv:pool=4", "odd");
  refused("r1kv:queries=some", "frame, tail, all");
  refused("merge:d=3", "between 0 and 2");
  refused("full:x=1", "takes no keys");
  refused("r1kv", "full attention", AttentionScheme::window);
  CHECK_FALSE(choose_kv("full", AttentionScheme::window).compresses());
  const auto r1kv = std::get<R1KvSettings>(choose_kv("r1kv:budget=1.5,mix=0.2,pool=3,per_head=off,queries=tail", AttentionScheme::causal).settings);
  CHECK(r1kv.budget == 1.5);
  CHECK(r1kv.mix == 0.2);
  CHECK(r1kv.pool == 3);
  CHECK_FALSE(r1kv.per_head);
  CHECK(r1kv.queries == KvQueries::tail);
  CHECK_THAT(describe_kv(), Catch::Matchers::ContainsSubstring("stream:N") && Catch::Matchers::ContainsSubstring("budget"));
}
