// Which tokens of a chunk are computed: none, all, whole spatial columns, or a list.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace longtake {

class TokenSet {
 public:
  enum class Kind { none, all, columns, list };

  static TokenSet none() { return TokenSet(Kind::none, {}); }
  static TokenSet all() { return TokenSet(Kind::all, {}); }
  // The same positions of the frame's plane in every frame of the chunk; ascending int64 [n].
  static TokenSet columns(at::Tensor positions);
  // Token indices within the chunk, frame-major; ascending int64 [n].
  static TokenSet list(at::Tensor tokens);
  // The true places of a bool [frames, plane]: columns where all frames agree, else a list. Waits for the device.
  static TokenSet from_mask(const at::Tensor& mask);

  Kind kind() const { return kind_; }
  bool is_none() const { return kind_ == Kind::none; }
  bool is_all() const { return kind_ == Kind::all; }

  // How many tokens of a chunk of `frames` x `plane` tokens.
  int64_t count(int64_t frames, int64_t plane) const;
  // Tokens in each frame, for per-frame modulation; needs the indices on the host for a list.
  std::vector<int64_t> count_by_frame(int64_t frames, int64_t plane) const;
  // Indices into the chunk, ascending int64 [count] on `device`.
  at::Tensor indices(int64_t frames, int64_t plane, const at::Device& device) const;
  // Bool [frames, plane] on `device`.
  at::Tensor mask(int64_t frames, int64_t plane, const at::Device& device) const;
  // Whether it names the tokens that `other` names, in the same way. Never waits for the device, so two tensors there count as different.
  bool known_equal(const TokenSet& other) const;
  // What columns() or list() was given; undefined for none and all.
  const at::Tensor& index() const { return index_; }

 private:
  TokenSet(Kind kind, at::Tensor index) : kind_(kind), index_(std::move(index)) {}
  Kind kind_;
  at::Tensor index_;
};

}  // namespace longtake
