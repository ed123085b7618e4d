// States as a forger would leave them: a true one with one entry of another shape or dtype. In a run folder its checksum would be right.
#pragma once

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <string>
#include <vector>

#include "cache/state.h"

namespace longtake {

// As a file would bring it back: tensors of its own, and an origin.
inline State reread(const State& state, const std::string& origin = "file") {
  std::map<std::string, at::Tensor> copies;
  for (const auto& [name, tensor] : state.tensors()) copies[name] = tensor.clone();
  return {std::move(copies), origin};
}

struct Forgery {
  std::string entry, how;
  State state;
};

// Of every entry of `state`.
inline std::vector<Forgery> forgeries(const State& state) {
  std::vector<Forgery> out;
  for (const auto& [name, tensor] : state.tensors()) {
    const auto put = [&, &name = name](const char* how, const at::Tensor& value) {
      std::map<std::string, at::Tensor> tensors = reread(state).tensors();
      tensors[name] = value;
      out.push_back({name, how, State(std::move(tensors), "file")});
    };
    put("a dimension more", tensor.unsqueeze(0));
    std::vector<int64_t> row = tensor.sizes().vec();
    row[0] = 1;
    put("a row more", at::cat({tensor, at::zeros(row, tensor.options())}));
    if (tensor.size(0) > 0) put("a row less", tensor.narrow(0, 1, tensor.size(0) - 1).clone());
    put("another dtype", tensor.to(tensor.scalar_type() == at::kDouble ? at::kFloat : at::kDouble));
    put("another size of integer", tensor.to(tensor.scalar_type() == at::kInt ? at::kLong : at::kInt));
  }
  return out;
}

}  // namespace longtake
