// Names the operation that the work given to the device belongs to, and what it costs at least, for `bench generate --profile`.
//
// A scope is a user annotation of LibTorch's (at::RecordFunction), so that its profiler sees it beside kernels. While nobody profiles
// it costs one look at a thread's list of observers. Scopes do not nest.
#pragma once

#include <ATen/record_function.h>

#include <optional>
#include <string>
#include <string_view>

namespace longtake {

struct OpCost {
  double flops = 0;  // 2 * multiply-adds
  double bytes = 0;  // every input read once and every output written once
};

class OpScope {
 public:
  explicit OpScope(std::string_view name, const OpCost& cost = {}) : record_(at::RecordScope::USER_SCOPE) {
    if (record_.isActive()) begin(name, cost);
  }
  OpScope(const OpScope&) = delete;
  OpScope& operator=(const OpScope&) = delete;

  struct Label {
    std::string name;
    OpCost cost;
  };
  // What a scope's annotation says; nothing where the annotation is another's.
  static std::optional<Label> parse(const std::string& annotation);

 private:
  void begin(std::string_view name, const OpCost& cost);

  std::string annotation_;  // the record refers to it
  at::RecordFunction record_;
};

}  // namespace longtake
