#include "tools/train/magi_plan.h"

#include <algorithm>

#include "base/error.h"

namespace longtake::train {
namespace {

constexpr int kQuarters = 4;
constexpr int kKeyChunks[kQuarters] = {5, 4, 3, 2};  // seen in each quarter, the chunk's own included
constexpr double kJitter = 0.02;

}  // namespace

double magi_time(double u) {
  const double square = u * u;
  return square / 3 / (1 - square * 2 / 3);
}

MagiStructure draw_structure(int chunks, bool copies, demo::Random& random) {
  LONGTAKE_CHECK(chunks >= 1 && chunks <= 5, "expected 1 to 5 chunks, found {}", chunks);
  MagiStructure s;
  int top = kQuarters - 1;  // quarter of the cleanest chunk in flight
  if (chunks == 1) {
    s.alone = random.uniform() < 0.5;
    s.from_start = !s.alone;
    if (!s.alone || !copies) top = random.below(kQuarters);
    s.partly_given = s.from_start;
  } else {
    // A video begins, goes on or ends, or goes on from given chunks.
    const double kind = chunks > kQuarters ? random.uniform(0.3, 1) : random.uniform();
    s.history = kind < 0.3 ? 0 : kind < 0.8 ? 1 : 1 + random.below(std::min(chunks - 1, 4));
    const bool begins = s.history == 0, given = kind >= 0.8;
    s.from_start = begins || given;
    s.partly_given = begins || given;
    s.clean_history = given || random.uniform() < 0.75;
    // The last chunk in flight is in any quarter that leaves room for those before it.
    const int flying = std::min(chunks - s.history, kQuarters);
    if (begins || given) top = flying - 1 + random.below(kQuarters + 1 - flying);
  }
  for (int i = 0; i < chunks - s.history; ++i) s.quarters.push_back(std::max(0, top - i));
  for (int i = 0; i < s.history; ++i) s.first_keys.push_back(s.clean_history ? i : std::max(0, i + 1 - kKeyChunks[kQuarters - 1]));
  for (size_t i = 0; i < s.quarters.size(); ++i)
    s.first_keys.push_back(std::max(0, s.history + static_cast<int>(i) + 1 - kKeyChunks[s.quarters[i]]));
  return s;
}

std::vector<double> draw_shares(const MagiStructure& s, demo::Random& random) {
  const double common = random.uniform();
  std::vector<double> out;
  for (const int quarter : s.quarters)
    out.push_back(std::clamp((quarter + common) / kQuarters + random.uniform(-kJitter, kJitter), 0.0, 0.995));
  return out;
}

}  // namespace longtake::train
