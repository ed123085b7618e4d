#include "models/ops/block_stream.h"

#include <ATen/ops/empty.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace longtake {
namespace {

constexpr int64_t kAlignment = 256;  // of a tensor within its block: what the products' kernels like, and any dtype's

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

at::Tensor part_of(const at::Tensor& bytes, int64_t offset, const at::Tensor& like) {
  return bytes.narrow(0, offset, static_cast<int64_t>(like.nbytes())).view(like.scalar_type()).view(like.sizes());
}

}  // namespace

BlockStream::BlockStream(BlockStore& store, int64_t blocks) : store_(store), blocks_(blocks) {
  std::fill(std::begin(held_), std::end(held_), -1);
}

void BlockStream::fetch(int64_t block) {
  const int64_t place = block % kBlocksOnDevice;
  if (held_[place] == block) return;
  held_[place] = -1;
  store_.fetch(block, place);
  held_[place] = block;
}

void BlockStream::enter(int64_t block) {
  LONGTAKE_CHECK(inside_ < 0 && block >= 0 && block < blocks_, "expected one of {} blocks, and none that is in use; found {} and {}", blocks_, block,
                 inside_);
  inside_ = block;
  fetch(block);
  const int64_t next = (block + 1) % blocks_;
  // With an odd number of blocks the first one follows in the last one's own place: then it has to wait for leave().
  if (next % kBlocksOnDevice != block % kBlocksOnDevice) fetch(next);
  store_.await(block % kBlocksOnDevice);
}

void BlockStream::leave(int64_t block) {
  LONGTAKE_CHECK(inside_ == block, "expected block {} to be in use, found {}", block, inside_);
  inside_ = -1;
  store_.release(block % kBlocksOnDevice);
  fetch((block + 1) % blocks_);
}

DeviceBlockStore::~DeviceBlockStore() {
  // The last copy, which nobody asked for yet, may still run into memory that is let go here.
  for (const auto& copied : copied_)
    if (copied && copied->was_marked_for_recording()) copied->synchronize();
}

void DeviceBlockStore::add(const std::vector<at::Tensor*>& tensors) {
  std::vector<Part> parts;
  int64_t bytes = 0;
  for (at::Tensor* tensor : tensors) {
    if (!tensor->defined()) continue;
    LONGTAKE_CHECK(tensor->device() == device_ && tensor->is_contiguous(), "expected dense weights on {}, found them on {}", device_.str(),
                   tensor->device().str());
    parts.push_back({tensor, bytes});
    bytes += aligned(static_cast<int64_t>(tensor->nbytes()));
  }
  at::Tensor host = at::empty({bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(device_.is_cuda()));
  for (const Part& part : parts) {
    part_of(host, part.offset, *part.tensor).copy_(*part.tensor);
    *part.tensor = at::empty(part.tensor->sizes(), part.tensor->options().device(at::kMeta));  // dtype and shape alone, for finish()
  }
  host_.push_back(std::move(host));
  parts_.push_back(std::move(parts));
}

void DeviceBlockStore::finish() {
  if (device_.is_cuda()) copies_ = c10::impl::VirtualGuardImpl(device_.type()).getStreamFromGlobalPool(device_);
  int64_t widest = 0;
  for (const at::Tensor& block : host_) widest = std::max(widest, block.size(0));
  for (int64_t place = 0; place < kBlocksOnDevice; ++place) {
    places_[place] = at::empty({widest}, at::TensorOptions().dtype(at::kByte).device(device_));
    if (!device_.is_cuda()) continue;
    copied_[place].emplace(device_.type());
    released_[place].emplace(device_.type());
    release(place);  // by whoever had this memory before
  }
  for (size_t block = 0; block < parts_.size(); ++block)
    for (const Part& part : parts_[block]) *part.tensor = part_of(places_[block % kBlocksOnDevice], part.offset, *part.tensor);
  parts_.clear();  // their addresses are good for as long as nobody moves the blocks
}

void DeviceBlockStore::fetch(int64_t block, int64_t place) {
  const at::Tensor& host = host_.at(block);
  at::Tensor target = places_[place].narrow(0, 0, host.size(0));
  if (!copies_) {
    target.copy_(host);
    return;
  }
  released_[place]->block(*copies_);
  const c10::StreamGuard guard(*copies_);
  target.copy_(host, /*non_blocking=*/true);
  copied_[place]->record(*copies_);
}

void DeviceBlockStore::await(int64_t place) {
  if (copies_) copied_[place]->block(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
}

void DeviceBlockStore::release(int64_t place) {
  if (copies_) released_[place]->record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
}

int64_t DeviceBlockStore::host_bytes() const {
  int64_t sum = 0;
  for (const at::Tensor& block : host_) sum += static_cast<int64_t>(block.nbytes());
  return sum;
}

}  // namespace longtake
