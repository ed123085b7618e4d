#include "cache/flowcache.h"

#include "cache/motioncache.h"
#include "tests/catch.h"

using namespace longtake;

namespace {

// Decisions of one chunk: F computed, R reused.
std::string trace(CachePolicy& policy, int steps, int chunk = 0) {
  std::string out;
  for (int s = 0; s < steps; ++s) {
    const auto d = policy.decide({.chunk = chunk, .step = s, .steps = steps, .frames = 5, .plane = 24});
    CHECK(d.size() == 2);
    CHECK(d[0].tokens.kind() == d[1].tokens.kind());
    CHECK((d[0].tokens.is_all() || d[0].tokens.is_none()));
    out += d[0].tokens.is_all() ? 'F' : 'R';
  }
  return out;
}

//                                    0    1    2    3    4    5     6     7    8     9     10     11     12     13   14
const std::vector<double> kDistance{0.0, 0.5, 0.5, 0.5, 0.5, 0.06, 0.05, 0.1, 0.09, 0.02, -0.05, 0.149, 0.002, 0.0, 0.0};

}  // namespace

TEST_CASE("flowcache accumulates by chunk, goes down with negative distances, and computes the ends") {
  FlowCache policy({}, kDistance, 2);
  // Sums from step 5 on: .06 .11* | .1* | .09 .11* | -.05 .099 .101* | 0, and the last step.
  const std::string want = "FFFFFRFFRFRRFRF";
  CHECK(trace(policy, 15) == want);
  CHECK(policy.preview(15) == want);
  CHECK(trace(policy, 15, 3) == want);  // another chunk starts from nothing
  policy.begin_window(1);
  CHECK(trace(policy, 15) == want);

  FlowCacheSettings settings = FlowCacheSettings::presets()[1].second;  // fast: 0.15
  settings.last_step = false;
  FlowCache fast(settings, kDistance, 2);
  // .06 .11 .21* | .09 .11 .06 .209* | .002 .002 .002
  CHECK(trace(fast, 15) == "FFFFFRRFRRRFRRR");
}

TEST_CASE("flowcache is motioncache without a token phase") {
  std::vector<double> distance;
  for (int s = 0; s < 50; ++s) distance.push_back(0.01 + 0.07 * ((s * 7) % 11) / 11.0);
  for (const double threshold : {0.0, 0.1, 0.15, 0.4}) {
    FlowCacheSettings flow;
    flow.threshold = threshold;
    MotionCacheSettings motion;
    motion.threshold = threshold;
    motion.phase1 = 50;  // more updates than there are steps
    FlowCache a(flow, distance, 2);
    MotionCache b(motion, distance, 2);
    INFO("threshold " << threshold);
    CHECK(trace(a, 50) == trace(b, 50));
    CHECK(a.preview(50) == b.preview(50));
  }
}

TEST_CASE("motioncache decides by chunk throughout when its phase 1 lasts for all updates there are") {
  const std::vector<double> distance(50, 0.04);  // triggers at 7, 10, ..., 46, 49: the last is forced anyway
  FlowCache flow({}, distance, 2);
  const std::string chunk_wise = trace(flow, 50);
  const auto updates = static_cast<int>(std::count(chunk_wise.begin() + 5, chunk_wise.end() - 1, 'F'));
  REQUIRE(updates == 14);
  for (const int phase1 : {updates - 1, updates}) {
    MotionCacheSettings settings;
    settings.phase1 = phase1;
    MotionCache motion(settings, distance, 2);
    const std::string preview = motion.preview(50);
    // With one update less, decisions turn per token as soon as that many are done.
    CHECK((preview.find('T') == std::string::npos) == false);
    CHECK(preview.substr(0, preview.find('T')) == chunk_wise.substr(0, preview.find('T')));
    CHECK(preview.find('T') == (phase1 == updates ? 47u : 44u));
  }
  MotionCacheSettings settings;
  settings.phase1 = updates + 1;
  CHECK(MotionCache(settings, distance, 2).preview(50) == chunk_wise);
}
