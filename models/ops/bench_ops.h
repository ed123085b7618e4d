// The operations of a transformer row at a given size, each ready to be called and timed, with what it must move and
// compute.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace longtake {

// Sizes of a row: defaults are SkyReels-V2-DF-1.3B at 544x960 with five chunks of five latent frames and guidance.
struct BenchSizes {
  int64_t dim = 1536, ffn_dim = 8960, heads = 12;
  int64_t chunks = 5, branches = 2;
  int64_t chunk_tokens = 10200;
  int64_t computed = 10200;  // tokens of each chunk that are computed: fewer in a row of columns
  int64_t text_tokens = 512;
  int64_t rows() const { return chunks * branches * computed; }
};

struct BenchOp {
  std::string name;
  double bytes = 0;     // every input read once and every output written once
  double flops = 0;     // 2 * multiply-adds; 0 for what only moves data
  double in_layer = 0;  // how often one layer of the row calls it; 0 for variants that it does not use
  std::function<void()> run;
};

// The operations share their tensors, filled with random values; `device` holds them as long as the list lives.
std::vector<BenchOp> bench_ops(const BenchSizes& sizes, const at::Device& device, at::ScalarType dtype);

}  // namespace longtake
