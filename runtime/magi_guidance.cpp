#include "runtime/magi_guidance.h"

#include <ATen/TensorOperators.h>

#include "base/error.h"

namespace longtake::magi {

GuidanceScales guidance_scales(const RunConfig& run, float t) {
  LONGTAKE_CHECK(!run.guidance_times.empty() && run.guidance_times.size() == run.prev_chunk_scales.size() &&
                     run.guidance_times.size() == run.text_scales.size(),
                 "expected two scales for each of {} intervals", run.guidance_times.size());
  // An edge belongs to the interval that it begins, float32 noise aside.
  size_t i = 0;
  while (i + 1 < run.guidance_times.size() && static_cast<float>(run.guidance_times[i + 1]) - 1e-7f < t) ++i;
  return {run.prev_chunk_scales[i], run.text_scales[i]};
}

at::Tensor guide(const GuidanceScales& s, const at::Tensor& text, const at::Tensor& null_text,
                 const at::Tensor& alone) {
  LONGTAKE_CHECK((text.defined() || !s.needs_text()) && (null_text.defined() || !s.needs_null_text()) &&
                     (alone.defined() || !s.needs_alone()),
                 "expected the velocity of every branch that has weight");
  at::Tensor v;
  const auto add = [&](double weight, const at::Tensor& branch) {
    if (weight != 0) v = v.defined() ? v + branch * weight : branch * weight;
  };
  add(1 - s.prev_chunks, alone);
  add(s.prev_chunks - s.text, null_text);
  add(s.text, text);
  return v;
}

at::Tensor blend_copy(const at::Tensor& velocity, const at::Tensor& copy) {
  return velocity * (1 - kCopyShare) + copy * kCopyShare;
}

}  // namespace longtake::magi
