// From a run to a plan and back.
#pragma once

#include <map>
#include <tuple>

#include "cache/plan.h"
#include "cache/policy.h"

namespace longtake {

// The policy that does what a plan says. The run must have passed check_plan.
class PlanReplay final : public CachePolicy {
 public:
  PlanReplay(Plan plan, int branches) : plan_(std::move(plan)), branches_(branches) {}

  std::vector<Decision> decide(const StepContext& context) override;
  int residuals() const override;
  // Of the first window's first chunk with decisions.
  std::string preview(int steps) const override;

 private:
  Plan plan_;
  int branches_;
};

// Collects a run's decisions, one entry a step and chunk, or one a branch where branches differ.
class PlanRecorder {
 public:
  PlanRecorder(AttentionScheme attention, std::string comment, bool extras = false)
      : attention_(attention), comment_(std::move(comment)), extras_(extras) {}

  // For every chunk that a row runs. `update` is false for chunks that only stand by: their length is noted.
  void add(const StepContext& context, int branch, bool update, const Decision& decision);
  Plan plan() const;

 private:
  AttentionScheme attention_;
  std::string comment_;
  bool extras_;
  int64_t plane_ = 0;
  int steps_ = 0, branches_ = 0;
  std::map<std::pair<int, int>, int64_t> frames_;                    // (window, chunk)
  std::map<std::tuple<int, int, int, int>, PlanEntry> entries_;      // (window, chunk, step, branch)
};

}  // namespace longtake
