// Policies that measure changes on latents: phases, accumulators, weights, the share and the vote, whole rows.
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "cache/latent_motioncache.h"
#include "cache/latent_teacache.h"
#include "tests/catch.h"

using namespace longtake;

namespace {

constexpr int64_t kFrames = 3, kPlane = 4;

bool near(double a, double b) { return std::abs(a - b) < 1e-4; }

// A run of one chunk whose embedded latents grow by `change` of their size each step, of 10 steps.
struct Steps {
  CachePolicy& policy;
  at::Tensor embedded = at::ones({kFrames, kPlane, 2});
  int step = 0;

  Decision next(double change, const at::Tensor& latents = at::zeros({kFrames, kPlane, 4})) {
    const StepContext context{0, 0, step, 10, kFrames, kPlane, false};
    embedded = step == 0 ? embedded : embedded * (1 + change);
    policy.begin_row({0, step, 10, {{0, kFrames, true}}});
    policy.input(context, embedded);
    const Decision d = policy.decide(context).at(0);
    policy.observe(context, 0, latents);
    ++step;
    return d;
  }
  std::string kinds(int count, double change) {
    std::string out;
    for (int i = 0; i < count; ++i) {
      const Decision d = next(change);
      out += d.tokens.is_none() ? 'R' : d.tokens.is_all() ? 'F' : 'T';
    }
    return out;
  }
};

LatentMotionCacheSettings settings() {
  LatentMotionCacheSettings s;
  s.warmup = 1;
  s.chunk_steps = 3;
  s.threshold = s.token_threshold = 0.25;
  return s;
}

// Motion that grows along the plane, the same in every frame.
at::Tensor moving() {
  at::Tensor latents = at::zeros({kFrames, kPlane, 4});
  for (int64_t f = 0; f < kFrames; ++f)
    for (int64_t p = 0; p < kPlane; ++p) latents[f][p] = static_cast<double>(f * p);
  return latents;
}

}  // namespace

TEST_CASE("latent motioncache: warm-up, whole chunks, tokens that do not move alike, last step") {
  LatentMotionCache policy(settings());
  Steps steps{policy};
  // Without motion all tokens weigh 1. 0.1 a step: three steps reach 0.25, the third of which is the first that decides
  // per token, and carries what the chunk had gathered.
  CHECK(steps.kinds(10, 0.1) == "FFRRFRRFRF");
  CHECK(policy.preview(10) == "FF???TTTTF");

  LatentMotionCacheSettings s = settings();
  s.carry = s.last_step = false;
  s.chunk_steps = 2;
  LatentMotionCache forgetful(s);
  Steps forgot{forgetful};
  CHECK(forgot.kinds(10, 0.1) == "FFRRRRFRRF");  // by the third step per token
  s.tokens = false;
  LatentMotionCache chunks(s);
  Steps whole{chunks};
  CHECK(whole.kinds(10, 0.1) == "FFRRFRRFRR");
}

TEST_CASE("latent motioncache: tokens that move gather error faster") {
  LatentMotionCacheSettings s = settings();
  s.chunk_steps = 0;
  s.floor = 0.5;
  LatentMotionCache policy(s);
  Steps steps{policy};
  steps.next(0, moving());
  steps.next(0, moving());
  CHECK(at::allclose(policy.chunk(0).weight[1], at::tensor({0.5f, 2 / 3.f, 5 / 6.f, 1.f})));
  CHECK(at::equal(policy.chunk(0).weight[0], policy.chunk(0).weight[1]));  // the very first frame is as the second
  Decision d = steps.next(0.2, moving());
  CHECK(d.tokens.is_none());
  CHECK(d.phase == Phase::token);
  CHECK(near(d.distance, 0.2));
  d = steps.next(0.08, moving());  // 0.28 by now, times the weights
  CHECK(d.tokens.kind() == TokenSet::Kind::columns);
  CHECK(d.tokens.index().equal(at::tensor({3}, at::kLong)));
  CHECK(policy.chunk(0).by_token[0][3].item<double>() == 0);
  CHECK(near(policy.chunk(0).by_token[0][0].item<double>(), 0.14));
}

TEST_CASE("latent motioncache: the share that may be reused, equals alike, and the vote of a column") {
  LatentMotionCacheSettings s = settings();
  s.chunk_steps = 0;
  s.floor = 0.5;
  s.token_threshold = 100;
  s.reuse_first = s.reuse_last = 0.5;
  LatentMotionCache half(s);
  Steps steps{half};
  steps.next(0, moving());
  steps.next(0, moving());
  CHECK(steps.next(0.1, moving()).tokens.index().equal(at::tensor({2, 3}, at::kLong)));
  s.reuse_first = s.reuse_last = 0.4;  // 4.8 of 12 tokens, whose column has three
  LatentMotionCache less(s);
  Steps again{less};
  again.next(0, moving());
  again.next(0, moving());
  CHECK(again.next(0.1, moving()).tokens.index().equal(at::tensor({2, 3}, at::kLong)));

  // One frame of a column moves most, then two of three.
  for (const bool two : {false, true}) {
    LatentMotionCacheSettings v = settings();
    v.chunk_steps = 0;
    v.vote = true;
    v.vote_share = 0.5;
    v.floor = 0;
    LatentMotionCache policy(v);
    Steps voters{policy};
    at::Tensor latents = at::zeros({kFrames, kPlane, 4});
    latents[1][2] = 1;  // moves into frame 1, out of it into frame 2, and so frame 0 takes it over
    if (!two) latents[2][2] = 1, latents[0][2] = 0;
    voters.next(0, latents);
    voters.next(0, latents);
    const Decision d = voters.next(0.3, latents);
    // Frames without any motion weigh 1 throughout: with one still frame, the other columns have one vote of three.
    CHECK(d.tokens.mask(kFrames, kPlane, at::kCPU).select(1, 2).all().item<bool>());
    if (two) CHECK(d.tokens.index().equal(at::tensor({2}, at::kLong)));
    if (!two) CHECK(d.tokens.kind() == TokenSet::Kind::list);
  }
}

TEST_CASE("latent policies: a chunk's state is written and read back") {
  LatentMotionCacheSettings s = settings();
  s.chunk_steps = 1;
  const at::Tensor latents = at::rand({kFrames, kPlane, 4});
  LatentMotionCache one(s), other(s);
  Steps steps{one};
  for (int i = 0; i < 4; ++i) steps.next(0.07, latents);
  State state;
  one.save(state);
  other.begin_window(0);
  other.load(state, {{kFrames}, kPlane, 1, {2, at::kFloat}, {4, at::kFloat}, {}, at::kCPU});
  Steps rest{other, steps.embedded, steps.step};
  for (int i = 0; i < 5; ++i) {
    const Decision a = steps.next(0.07, latents), b = rest.next(0.07, latents);
    CHECK(at::equal(a.tokens.mask(kFrames, kPlane, at::kCPU), b.tokens.mask(kFrames, kPlane, at::kCPU)));
    CHECK(a.distance == b.distance);
  }
}

TEST_CASE("latent teacache: one decision a row over the chunks that were there before; a new chunk is computed") {
  LatentTeaCacheSettings s;
  s.threshold = 0.25;
  s.ret = 2;
  LatentTeaCache policy(s);
  Steps steps{policy};
  CHECK(steps.kinds(10, 0.1) == "FFRRFRRFRF");

  policy.begin_window(0);
  std::string first, second;
  at::Tensor a = at::ones({kFrames, kPlane, 2}), b = at::ones({kFrames, kPlane, 2});
  for (int row = 0; row < 6; ++row) {
    policy.begin_row({0, row, 100, {{0, kFrames, true}, {0, kFrames, row >= 3}}});
    a = a * 1.05;
    policy.input({0, 0, row, 10, kFrames, kPlane, false}, a);
    if (row >= 3) policy.input({0, 1, row - 3, 10, kFrames, kPlane, false}, b);
    const Decision d = policy.decide({0, 0, row, 10, kFrames, kPlane, false}).at(0);
    first += d.tokens.is_none() ? 'R' : 'F';
    const double size = std::pow(1.05, 5);
    if (row == 5) CHECK(near(d.distance, 0.05 * size / (size + 1)));
    if (row >= 3)
      second += policy.decide({0, 1, row - 3, 10, kFrames, kPlane, false}).at(0).tokens.is_none() ? 'R' : 'F';
  }
  CHECK(first == "FFRRRR");
  CHECK(second == "FRR");
}
