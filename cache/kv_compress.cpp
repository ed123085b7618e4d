#include "cache/kv_compress.h"

#include "base/error.h"

namespace longtake {
namespace {

class StreamKv final : public KvCompressor {
 public:
  StreamKv(int chunks, KvChunks layout) : chunks_(chunks), layout_(std::move(layout)) {}

  void finish(KvCache& kv, int finished) override {
    const int64_t begin = layout_.bounds.at(static_cast<size_t>(std::max(0, finished - chunks_)));
    for (int64_t layer = 0; layer < kv.shape().layers; ++layer)
      for (int b = 0; b < kv.shape().branches; ++b) {
        KvLayer& store = kv.layer(layer, b);
        store.hold({std::min(std::max(begin, store.first), store.end()), store.end()});
      }
  }

 private:
  int chunks_;
  KvChunks layout_;
};

}  // namespace

std::unique_ptr<KvCompressor> StreamKvSettings::make(const KvChunks& layout) const { return std::make_unique<StreamKv>(chunks, layout); }

}  // namespace longtake
