#include "video_io/bootstrap.h"

#include "tests/catch.h"

#include <cmath>
#include <random>

using namespace longtake;

TEST_CASE("few clips: no interval for one, one point for equal ones") {
  CHECK(bootstrap_mean({}, {}).count == 0);
  const Estimate one = bootstrap_mean(std::vector{0}, std::vector{3.5});
  CHECK(one.value == 3.5);
  CHECK_FALSE(one.interval);
  const Estimate equal = bootstrap_mean(std::vector{0, 0, 1}, std::vector{2.0, 2.0, 2.0});
  CHECK(equal.count == 3);
  CHECK(equal.clusters == 2);
  CHECK(equal.interval->low == 2);
  CHECK(equal.interval->high == 2);
}

TEST_CASE("the same numbers give the same interval, another seed nearly the same") {
  const std::vector<int> prompts{0, 0, 1, 1, 2, 2, 3, 3};
  const std::vector<double> values{1, 2, 4, 3, 7, 6, 2, 5};
  const Estimate a = bootstrap_mean(prompts, values), b = bootstrap_mean(prompts, values),
                 c = bootstrap_mean(prompts, values, {.seed = 2});
  CHECK(a.interval->low == b.interval->low);
  CHECK(a.interval->high == b.interval->high);
  CHECK(std::abs(a.interval->low - c.interval->low) < 0.3);
  CHECK(a.interval->low < a.value);
  CHECK(a.value < a.interval->high);
  CHECK(a.interval->low >= 1);
  CHECK(a.interval->high <= 7);
}

TEST_CASE("clips of one prompt that agree do not make the interval narrower") {
  // Four prompts, each with one value; and the same with every clip eight times over.
  const std::vector<double> means{1, 5, 2, 8};
  std::vector<int> once_prompts, many_prompts;
  std::vector<double> once, many;
  for (int p = 0; p < 4; ++p) {
    once_prompts.push_back(p), once.push_back(means[p]);
    for (int k = 0; k < 8; ++k) many_prompts.push_back(p), many.push_back(means[p]);
  }
  const Interval a = *bootstrap_mean(once_prompts, once).interval, b = *bootstrap_mean(many_prompts, many).interval;
  CHECK(std::abs((a.high - a.low) - (b.high - b.low)) < 0.15 * (a.high - a.low));
}

TEST_CASE("about 95 of 100 intervals hold the true mean") {
  std::mt19937_64 random(7);
  const auto normal = [&random] {  // sum of 12 uniforms: the same on every standard library
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(random() >> 11) * 0x1p-53;
    return sum;
  };
  int held = 0;
  constexpr int trials = 300;
  for (int trial = 0; trial < trials; ++trial) {
    std::vector<int> prompts;
    std::vector<double> values;
    for (int p = 0; p < 25; ++p) {
      const double prompt = normal();
      for (int s = 0; s < 3; ++s) prompts.push_back(p), values.push_back(10 + prompt + 0.5 * normal());
    }
    const Interval i =
        *bootstrap_mean(prompts, values, {.resamples = 600, .seed = static_cast<uint64_t>(trial)}).interval;
    held += i.low <= 10 && 10 <= i.high;
  }
  CHECK(held > trials * 0.90);
  CHECK(held < trials * 0.99);
}

TEST_CASE("a ratio is of sums, resampled in pairs") {
  const std::vector<int> prompts{0, 1, 2};
  const Estimate same = bootstrap_ratio(prompts, std::vector{2.0, 20.0, 200.0}, std::vector{1.0, 10.0, 100.0});
  CHECK(same.value == 2);
  CHECK(same.interval->low == 2);
  CHECK(same.interval->high == 2);
  CHECK(bootstrap_ratio(prompts, std::vector{1.0, 2.0, 3.0}, std::vector{2.0, 2.0, 2.0}).value == 1);
}
