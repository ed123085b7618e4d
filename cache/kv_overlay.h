// Keys and values that a call computes and does not keep, laid over those that are stored.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "cache/kv_cache.h"

namespace longtake {

// Tokens [token, token + count) of the window are the rows from `row` on of the call.
struct FreshRows {
  int64_t token = 0, count = 0, row = 0;
};

// The keys of `tokens`: stored rows, and in place of those in `fresh` (ascending, without overlap) rows of keys and
// values [rows, kv_heads, head_width]. `store` is null where nothing is stored. Tokens in front that the store no
// longer holds are left out; any other token that neither has is an Error (internal). Refers to its sources where no
// copy is needed.
KvLayer overlay(const KvLayer* store, TokenRange tokens, std::span<const FreshRows> fresh, const at::Tensor& keys,
                const at::Tensor& values);

}  // namespace longtake
