// Blocks whose weights stay in host memory and come to the device one by one: block i + 1 is copied while block i computes.
//
// BlockStream decides when; a BlockStore does it. The device has room for kBlocksOnDevice blocks: block i takes place i mod that, so a copy
// into a place follows the last work of the block before it there. The order of blocks is a ring, because the next forward pass begins
// with the first one again.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace longtake {

inline constexpr int64_t kBlocksOnDevice = 2;

// What BlockStream asks for; nothing of it makes the host wait.
class BlockStore {
 public:
  virtual ~BlockStore() = default;
  // Begins to copy the block to its place, behind the work that was released there.
  virtual void fetch(int64_t block, int64_t place) = 0;
  // Work that is launched from now on comes behind the place's copy.
  virtual void await(int64_t place) = 0;
  // Work that was launched up to now is the last that reads the place.
  virtual void release(int64_t place) = 0;
};

class BlockStream {
 public:
  // The store must outlive the object.
  BlockStream(BlockStore& store, int64_t blocks);

  // The block's weights are there for work that is launched until leave(block). Any order is right, ascending ones (and from the last
  // to the first) are fast. One block at a time: Error (internal) otherwise.
  void enter(int64_t block);
  void leave(int64_t block);

 private:
  void fetch(int64_t block);

  BlockStore& store_;
  int64_t blocks_;
  int64_t inside_ = -1;
  int64_t held_[kBlocksOnDevice];  // by place; -1 for none
};

// A block's weights are in use while it lives; nothing happens where there is no stream.
class BlockInUse {
 public:
  BlockInUse(BlockStream* stream, int64_t block) : stream_(stream), block_(block) {
    if (stream_) stream_->enter(block_);
  }
  ~BlockInUse() {
    try {
      if (stream_) stream_->leave(block_);
    } catch (...) {  // a device that fails here says so again in the next call
    }
  }
  BlockInUse(const BlockInUse&) = delete;
  BlockInUse& operator=(const BlockInUse&) = delete;

 private:
  BlockStream* stream_;
  int64_t block_;
};

// The store that copies. Everything of a block lies in one piece on both sides, so that one copy brings it.
class DeviceBlockStore final : public BlockStore {
 public:
  explicit DeviceBlockStore(const at::Device& device) : device_(device) {}
  ~DeviceBlockStore() override;

  // Takes the values of a block's tensors, which are on the device and dense, and makes them views of the block's place. In ascending
  // order of blocks; undefined tensors stay so. The old values are let go.
  void add(const std::vector<at::Tensor*>& tensors);
  // Behind the last add: makes the places.
  void finish();

  void fetch(int64_t block, int64_t place) override;
  void await(int64_t place) override;
  void release(int64_t place) override;

  int64_t host_bytes() const;

 private:
  struct Part {
    at::Tensor* tensor;
    int64_t offset;  // bytes
  };
  at::Device device_;
  std::vector<at::Tensor> host_;  // a block each, bytes; page-locked where the device is a GPU
  std::vector<std::vector<Part>> parts_;
  at::Tensor places_[kBlocksOnDevice];
  // On a GPU:
  std::optional<c10::Stream> copies_;
  std::optional<c10::Event> copied_[kBlocksOnDevice], released_[kBlocksOnDevice];
};

}  // namespace longtake
