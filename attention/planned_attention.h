// The attention of whole rows, in 16-bit and in 8-bit floats (e4m3): through our own kernel (attention/flash.h) where it runs, else through plans
// of cuDNN's that we hold ourselves, else through attend().
//
// What the plans are for: ATen plans anew for every pair of query and key counts (60 ms each), and a policy that picks tokens brings new ones
// in every step. Here a plan is for a count of queries and for as many keys as the store has room for; how many there are is read on the
// device. Such plans also run on the faster of cuDNN's kernels: in e4m3 at 997 TFLOP/s where others run at 862, with the same bits. Queries are
// not counted like that: a plan takes the time of all queries that it was made for, and in 16 bits gives wrong results where there are
// less than half as many. Our kernel needs no plans and no padding (figures of both: docs/performance.md).
//
// In e4m3, with a result in e4m3: what feeds a product in fp8 (quant/fp8.h) without being rounded again. Every tensor is taken for its
// e4m3 values alone. A factor on the values passes through to the result, so that scales of values stay with the caller (out is
// attention / v_scale), one for each sequence if need be, and saturation cannot occur: a result is a mean of values. There are no scales
// by head, because cuDNN takes one number a tensor. Softmax is in float32 and its weights are rounded to e4m3. The reference that stands in
// elsewhere: e4m3 is exact in bfloat16 and float32, and attend() does the rest.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attention/attend.h"
#include "attention/cudnn/sdpa.h"

namespace longtake {

// A plan is for a count of queries, and a policy that picks tokens brings a new one in every step: calls are made for the next multiple, as large
// as two of cuDNN's own tiles. Where calls take so little in all that fewer plans are worth more, for the coarse one.
constexpr int64_t kQueryMultiple = 256, kCoarseMultiple = 2048;
constexpr int64_t padded(int64_t queries, int64_t multiple = kQueryMultiple) { return (queries + multiple - 1) / multiple * multiple; }

// Holds the plans, so one object should live as long as the model. One thread and one stream of the device at a time.
class PlannedAttention {
 public:
  enum class Kernels { fastest, cudnn };  // `cudnn`: not our own, to compare

  explicit PlannedAttention(const at::Device& device, Kernels kernels = Kernels::fastest);

  // Tries our kernel, else cuDNN, in this dtype (e4m3, bfloat16 or float16) on small cases against the reference, and waits for it. Returns why
  // neither can be used, or "". Until it was tried, and where neither can, calls in this dtype take the reference. `key_heads`: of keys and
  // values, where those have fewer; not in e4m3.
  const std::string& try_out(at::ScalarType dtype, int64_t heads, int64_t width, int64_t key_heads = 0);

  // Attention of each sequence over all of its keys: q [n, heads, width], k, v [rows, kv_heads, width] of one dtype (attend.h), dense; in
  // e4m3 kv_heads is heads and there is no bias. Returns [n, heads, width] of each, dense, in q's dtype. In one call where sequences
  // lie as attend_together wants it. Waits for nothing.
  //
  // `key_room`: how many rows the memory of keys and values holds from each sequence's first on, at least `rows`; what lies behind `rows`
  // must be finite and does not count. Plans are made for it, so callers whose `rows` vary give one room for all. 0: `rows`.
  std::vector<at::Tensor> together(std::span<const Sequence> sequences, int64_t key_room = 0);

  // Whether `together` leaves these to flash_attend(), which takes sequences of different lengths in one launch.
  bool joins(std::span<const Sequence> sequences) const;

  // Why our kernel does not work though it is made for this GPU, or ""; once.
  std::string take_slower_because() { return std::exchange(slower_because_, {}); }

  // Hears once of a shape that cuDNN refused after all, with its words: results stay right, that shape is slow.
  std::function<void(const std::string&)> on_refusal;

  int64_t plans() const { return cudnn_ ? cudnn_->plans() : 0; }  // made so far

 private:
  bool usable(at::ScalarType dtype) const;
  void open_cudnn();
  // What try_out finds of our kernel, and of cuDNN.
  bool flash_works(at::ScalarType dtype, int64_t heads, int64_t width, int64_t key_heads);
  std::string tried(at::ScalarType dtype, int64_t heads, int64_t width, int64_t key_heads);
  // Undefined where cuDNN has refused this shape, now or before.
  at::Tensor on_cudnn(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t key_room);
  // On the device: `count` once for each sequence.
  const int32_t* counts(int64_t count);

  at::Device device_;
  const Kernels kernels_;
  std::set<at::ScalarType> flash_;  // in which our kernel was tried and can be used
  std::unique_ptr<cudnn::Sdpa> cudnn_;
  std::string closed_;                          // why there is no cuDNN at all
  std::map<at::ScalarType, std::string> tried_;  // by dtype, where our kernel was refused: why not, or ""
  std::string slower_because_;
  at::Tensor constants_, unused_;
  at::Tensor counts_;  // [n, kSequences] int32: row i is full of i
  std::set<cudnn::SdpaShape> refused_;
};

namespace reference {
// One sequence in e4m3. The weights of softmax are not rounded.
at::Tensor attend_fp8(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
}  // namespace reference

}  // namespace longtake
