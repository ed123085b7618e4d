#include "runtime/unipc.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/max.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/devices.h"

using longtake::UniPc;
using longtake::UniPcState;

TEST_CASE("timesteps are the reference's grid") {
  CHECK(longtake::flow_timesteps(50, 8) ==
        std::vector<int>{999, 997, 994, 991, 989, 986, 983, 979, 976, 973, 969, 965, 961, 957, 953, 948, 944,
                         939, 934, 928, 922, 916, 910, 903, 896, 888, 880, 871, 862, 852, 841, 830, 817, 804,
                         789, 773, 756, 737, 716, 692, 666, 636, 603, 565, 521, 470, 409, 337, 249, 140});
  CHECK(longtake::flow_timesteps(50, 5) ==
        std::vector<int>{999, 995, 991, 987, 982, 978, 973, 968, 963, 957, 952, 946, 940, 934, 927, 920, 913,
                         906, 898, 890, 882, 873, 863, 854, 843, 833, 821, 809, 796, 783, 768, 753, 737, 720,
                         701, 681, 660, 636, 611, 584, 555, 522, 487, 448, 405, 356, 302, 241, 172, 92});
  CHECK(longtake::flow_timesteps(50, 3) ==
        std::vector<int>{999, 992, 985, 978, 971, 963, 956, 948, 939, 931, 922, 913, 904, 894, 884, 874, 864,
                         853, 841, 829, 817, 805, 792, 778, 764, 749, 734, 718, 701, 684, 666, 647, 627, 606,
                         585, 562, 538, 512, 486, 458, 428, 396, 363, 327, 290, 249, 206, 160, 111, 57});
  CHECK(longtake::flow_timesteps(30, 8) == std::vector<int>{999, 995, 991, 986, 980, 975, 969, 963, 956, 948,
                                                            941, 932, 922, 912, 901, 888, 874, 859, 841, 822,
                                                            799, 773, 743, 708, 666, 615, 551, 470, 363, 216});
  CHECK(longtake::flow_timesteps(30, 5) == std::vector<int>{999, 992, 985, 978, 969, 961, 952, 942, 931, 920,
                                                            908, 895, 882, 867, 850, 833, 813, 792, 768, 742,
                                                            713, 681, 644, 603, 555, 499, 434, 356, 262, 146});
  CHECK(longtake::flow_timesteps(30, 3) == std::vector<int>{999, 988, 976, 963, 950, 937, 922, 907, 891, 874,
                                                            856, 837, 817, 796, 773, 749, 723, 696, 666, 634,
                                                            599, 562, 521, 476, 428, 374, 315, 249, 176, 93});
}

TEST_CASE("sigmas are the reference's float32 values") {
  const auto sigmas = longtake::flow_sigmas(30, 8);
  REQUIRE(sigmas.size() == 31);
  const std::vector<double> expected = {0.99987489,
                                        0.995579839,
                                        0.991018772,
                                        0.98616612,
                                        0.980993092,
                                        0.975466847,
                                        0.969549894,
                                        0.963199377,
                                        0.956365645,
                                        0.948991537,
                                        0.941010237,
                                        0.932343543,
                                        0.922899246,
                                        0.912567735,
                                        0.901217878,
                                        0.888691187,
                                        0.874794781,
                                        0.859290898,
                                        0.841883481,
                                        0.822199166,
                                        0.799759805,
                                        0.773943663,
                                        0.743926287,
                                        0.708591402,
                                        0.66638875,
                                        0.615100443,
                                        0.55143863,
                                        0.470311314,
                                        0.36338836,
                                        0.216040879,
                                        0};
  for (size_t k = 0; k < expected.size(); ++k) CHECK(std::abs(sigmas[k] - expected[k]) < 1e-9);
}

TEST_CASE("a constant clean sample is reached exactly") {
  // Where the model always points at the same clean sample, every order of the solver moves along a straight line to
  // it.
  const UniPc solver(10, 5);
  const at::Tensor clean = at::sin(at::arange(24, at::kFloat)).view({2, 3, 4});
  const at::Tensor noise = at::sin(at::arange(24, at::kFloat) * 7 + 1).view({2, 3, 4});
  const double sigma0 = solver.sigmas()[0];
  at::Tensor x = noise * sigma0 + clean * (1 - sigma0);
  UniPcState state;
  for (int k = 0; k < solver.steps(); ++k) {
    const double sigma = solver.sigmas()[k];
    CHECK((x - (noise * sigma + clean * (1 - sigma))).abs().max().item<float>() < 2e-6f);
    x = solver.step(state, (x - clean) / sigma, x);
  }
  CHECK(state.step == 10);
  CHECK((x - clean).abs().max().item<float>() < 2e-6f);
}

TEST_CASE("the state can be carried elsewhere, and in-place writes of the caller do not reach it") {
  const UniPc solver(6, 8);
  auto velocity = [](const at::Tensor& x, int k) { return at::sin(x * (k + 1)); };
  const at::Tensor start = at::sin(at::arange(8, at::kFloat) * 3);

  UniPcState state;
  at::Tensor plain = start.clone();
  for (int k = 0; k < 6; ++k) plain = solver.step(state, velocity(plain, k), plain);

  UniPcState second;
  at::Tensor latents = start.clone();
  for (int k = 0; k < 6; ++k) {
    latents.copy_(solver.step(second, velocity(latents, k), latents));
    UniPcState saved{second.step, second.m1.clone(), second.m2.defined() ? second.m2.clone() : at::Tensor(),
                     second.last.clone()};
    second = saved;
  }
  CHECK(plain.equal(latents));
}

TEST_CASE("one step and bfloat16 velocities work, wrong use is reported") {
  const UniPc one(1, 8);
  UniPcState state;
  const at::Tensor x = at::ones({4}), v = at::ones({4}).to(at::kBFloat16);
  const at::Tensor clean = one.step(state, v, x);
  CHECK(clean.scalar_type() == at::kFloat);
  CHECK(std::abs(clean[0].item<float>() - (1 - one.sigmas()[0])) < 1e-7f);
  CHECK_THROWS_AS(one.step(state, v, x), longtake::Error);  // no step is left

  const UniPc two(2, 8);
  UniPcState fresh, lost{1, {}, {}, {}};
  CHECK_THROWS_AS(two.step(fresh, v, x.to(at::kBFloat16)), longtake::Error);
  CHECK_THROWS_AS(two.step(fresh, at::zeros({3}), x), longtake::Error);
  CHECK_THROWS_AS(two.step(lost, v, x), longtake::Error);
  CHECK_THROWS_AS(UniPc(0, 8), longtake::Error);
  CHECK_THROWS_AS(UniPc(10, 0), longtake::Error);
}

TEST_CASE("guidance and the steps of several chunks at once give the bits of plain operations") {
  struct Shape {
    int64_t channels, frames, height, width;
  };
  for (const auto& device : longtake::test_devices())
    for (const Shape& shape : {Shape{1, 1, 1, 1}, Shape{3, 2, 5, 7}, Shape{16, 5, 13, 30}})
      for (const bool guided : {false, true}) {
        const auto floats = at::TensorOptions().dtype(at::kFloat).device(device);
        constexpr int kSteps = 4, kChunks = 19;  // more than one launch takes
        const UniPc solver(kSteps, 3);
        const at::Tensor start = at::randn({shape.channels, kChunks * shape.frames, shape.height, shape.width}, floats);
        at::Tensor got = start.clone(), want = start.clone();
        std::vector<UniPcState> states(kChunks), plain(kChunks);
        for (int row = 0; row < kSteps + 2; ++row) {
          std::vector<longtake::GuidedChunk> ours, theirs;
          for (int c = 0; c < kChunks; ++c) {
            if (row < c % 3 || row - c % 3 >= kSteps) continue;  // chunks stand at different steps
            const std::vector<int64_t> sizes{shape.channels, shape.frames, shape.height, shape.width};
            const at::Tensor cond = at::randn(sizes, floats), uncond = guided ? at::randn(sizes, floats) : at::Tensor();
            ours.push_back({&states[c], cond, uncond, got.narrow(1, c * shape.frames, shape.frames)});
            theirs.push_back({&plain[c], cond, uncond, want.narrow(1, c * shape.frames, shape.frames)});
          }
          solver.advance(ours, 6);
          solver.advance_by_operations(theirs, 6);
          INFO("row " << row << " of " << shape.channels << " channels on " << device.str());
          REQUIRE(at::equal(got, want));
        }
        for (int c = 0; c < kChunks; ++c) {
          CHECK(states[c].step == kSteps);
          CHECK(at::equal(states[c].m1, plain[c].m1));
          CHECK(at::equal(states[c].m2, plain[c].m2));
          CHECK(at::equal(states[c].last, plain[c].last));
        }
        CHECK_FALSE(at::equal(got, start));
        CHECK_THROWS_AS(solver.advance(std::vector<longtake::GuidedChunk>{{&states[0], got, {}, got}}, 6), longtake::Error);
      }
}
