#include "cache/teacache.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>

#include "tests/catch.h"

using namespace longtake;

namespace {

// Conditioning vectors (t, -t), so that sizes and changes are those of the timesteps.
ConditioningChange plain() {
  return ConditioningChange([](double t) {
    at::Tensor v = at::ones({2}) * t;
    v[1] *= -1.0;
    return v;
  });
}

struct Row {
  std::vector<double> timesteps;  // of two chunks, 3 and 1 latent frames
  char want;                      // F or R
  double distance;
};

// A decision for chunk `chunk` at `step` in the row announced last.
Decision ask(TeaCache& policy, int chunk, int step) {
  const auto d = policy.decide({.chunk = chunk, .step = step, .steps = 9, .frames = 3, .plane = 4});
  CHECK(d.size() == 2);
  CHECK(d[0].tokens.kind() == d[1].tokens.kind());
  return d[0];
}

void announce(TeaCache& policy, int row, int rows, const std::vector<double>& t) {
  policy.begin_row({0, row, rows, {{t[0], 3, true}, {t[1], 1, true}}});
}

}  // namespace

TEST_CASE("teacache decides once a row from the change of the whole window") {
  TeaCacheSettings settings;
  settings.threshold = 0.2;
  settings.ret = 2;
  TeaCache policy(settings, plain(), [](double r) { return r; }, 2);
  // Change (3|dt1| + |dt2|) / (3 t1 + t2) of the row before: a waiting chunk adds to the size alone.
  const std::vector<Row> rows{
      {{1000, 1000}, 'F', 0},                  // forced
      {{900, 1000}, 'F', 300.0 / 4000},        // forced, and nothing accumulates
      {{800, 1000}, 'R', 300.0 / 3700},        // .081
      {{700, 1000}, 'R', 300.0 / 3400},        // .169
      {{600, 900}, 'F', 400.0 / 3100},         // .298: computed
      {{500, 800}, 'R', 400.0 / 2700},         // .148
      {{0, 700}, 'F', 1600.0 / 2300},          // .84
      {{0, 600}, 'R', 100.0 / 700},            // .143
      {{0, 600}, 'F', 0}};                     // the last row
  for (int window = 0; window < 2; ++window) {
    policy.begin_window(window);
    for (size_t i = 0; i < rows.size(); ++i) {
      INFO("row " << i);
      announce(policy, static_cast<int>(i), static_cast<int>(rows.size()), rows[i].timesteps);
      for (int chunk : {0, 1}) {
        const Decision d = ask(policy, chunk, static_cast<int>(i));
        CHECK(d.tokens.is_all() == (rows[i].want == 'F'));
        CHECK(std::abs(d.distance - rows[i].distance) < 1e-6);
      }
    }
  }
}

TEST_CASE("on causal chunks, a chunk that starts is computed in a row that is skipped") {
  for (const auto base : {AttentionScheme::window, AttentionScheme::causal}) {
    TeaCacheSettings settings;
    settings.base = base;
    settings.threshold = 1;
    settings.ret = 1;
    TeaCache policy(settings, plain(), [](double r) { return r; }, 2);
    policy.begin_window(0);
    announce(policy, 0, 4, {1000, 1000});
    CHECK(ask(policy, 0, 0).tokens.is_all());
    announce(policy, 1, 4, {990, 1000});
    CHECK(ask(policy, 0, 1).tokens.is_none());
    CHECK(ask(policy, 1, 0).tokens.is_all() == (base == AttentionScheme::causal));
    announce(policy, 2, 4, {980, 990});
    CHECK(ask(policy, 1, 1).tokens.is_none());
  }
}

TEST_CASE("a threshold of zero computes every row whose distance is not negative") {
  TeaCacheSettings settings;
  settings.threshold = 0;
  settings.ret = 1;
  settings.last_row = false;
  TeaCache policy(settings, plain(), [](double r) { return r - 0.05; }, 2);
  policy.begin_window(0);
  announce(policy, 0, 9, {1000, 1000});
  announce(policy, 1, 9, {900, 900});
  CHECK(ask(policy, 0, 1).tokens.is_all());
  announce(policy, 2, 9, {899, 899});
  CHECK(ask(policy, 0, 2).tokens.is_none());
}
