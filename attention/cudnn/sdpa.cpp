#include "attention/cudnn/sdpa.h"

// libcudnn and libcudart are opened at run time, so that a program starts without them.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>
#include <dlfcn.h>

#include <map>
#include <stdexcept>
#include <unordered_map>
#include <vector>

namespace fe = cudnn_frontend;

void* cudnn_frontend::cudnn_dlhandle = nullptr;

namespace longtake::cudnn {
namespace {

enum Uid : int64_t { kQ = 1, kK, kV, kOut, kQueryCounts, kKeyCounts, kDescaleQ, kDescaleK, kDescaleV, kDescaleS, kScaleS, kScaleO, kLargestS, kLargestO };

void check(fe::error_t error, const char* step) {
  if (error.is_bad()) throw std::runtime_error(std::string("cuDNN, ") + step + ": " + error.get_message());
}

void check(cudnnStatus_t status, const char* step) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw std::runtime_error(std::string("cuDNN, ") + step + ": " + fe::detail::get_error_string(status));
}

using Tensor = fe::graph::Tensor_attributes;
using Made = std::shared_ptr<Tensor>;

fe::DataType_t type_of(Element element) {
  switch (element) {
    case Element::e4m3: return fe::DataType_t::FP8_E4M3;
    case Element::bf16: return fe::DataType_t::BFLOAT16;
    case Element::f16: return fe::DataType_t::HALF;
  }
  throw std::runtime_error("cuDNN: an element type that does not exist");
}

// The graph of one attention call and its tensors as they are added.
class Description {
 public:
  Description(const SdpaShape& shape, std::shared_ptr<fe::KernelCache> kernels) : s_(shape), graph_(std::make_unique<fe::graph::Graph>()) {
    graph_->set_io_data_type(type_of(s_.element)).set_intermediate_data_type(fe::DataType_t::FLOAT).set_compute_data_type(fe::DataType_t::FLOAT);
    if (kernels) graph_->set_dynamic_shape_enabled(true).set_kernel_cache(std::move(kernels));
    s_.element == Element::e4m3 ? add_narrow() : add_wide();
  }

  std::unique_ptr<fe::graph::Graph> take() && { return std::move(graph_); }

 private:
  static Tensor tensor(const char* name, Uid uid, std::vector<int64_t> sizes, std::vector<int64_t> strides, fe::DataType_t type) {
    return Tensor().set_name(name).set_uid(uid).set_dim(sizes).set_stride(strides).set_data_type(type);
  }
  Made rows(const char* name, Uid uid, int64_t heads, int64_t count, int64_t stride) {
    const int64_t token = heads * s_.width;
    const int64_t distance = s_.sequences > 1 ? stride : count * token;  // (cuDNN refuses 0)
    return graph_->tensor(tensor(name, uid, {s_.sequences, heads, count, s_.width}, {distance, s_.width, token, 1}, type_of(s_.element)));
  }
  Made scalar(const char* name, Uid uid) { return graph_->tensor(tensor(name, uid, {1, 1, 1, 1}, {1, 1, 1, 1}, fe::DataType_t::FLOAT)); }
  Made counts(const char* name, Uid uid) {
    return graph_->tensor(tensor(name, uid, {s_.sequences, 1, 1, 1}, {1, 1, 1, 1}, fe::DataType_t::INT32));
  }

  template <class Attributes>
  Attributes attributes() {
    Attributes a;
    a.set_name("attend").set_generate_stats(false).set_attn_scale(s_.scale);
    if (s_.counted)
      a.set_padding_mask(true).set_seq_len_q(counts("query_counts", kQueryCounts)).set_seq_len_kv(counts("key_counts", kKeyCounts));
    return a;
  }

  void make_output(const Made& out) {
    const int64_t token = s_.heads * s_.width;
    out->set_output(true).set_uid(kOut).set_data_type(type_of(s_.element));
    out->set_dim({s_.sequences, s_.heads, s_.queries, s_.width}).set_stride({s_.queries * token, s_.width, token, 1});
  }

  void add_wide() {
    auto [out, stats] = graph_->sdpa(rows("q", kQ, s_.heads, s_.queries, s_.query_stride), rows("k", kK, s_.key_heads, s_.keys, s_.key_stride),
                                     rows("v", kV, s_.key_heads, s_.keys, s_.key_stride), attributes<fe::graph::SDPA_attributes>());
    make_output(out);
  }

  void add_narrow() {
    auto [out, stats, largest_s, largest_o] = graph_->sdpa_fp8(
        rows("q", kQ, s_.heads, s_.queries, s_.query_stride), rows("k", kK, s_.key_heads, s_.keys, s_.key_stride),
        rows("v", kV, s_.key_heads, s_.keys, s_.key_stride),
        scalar("descale_q", kDescaleQ), scalar("descale_k", kDescaleK), scalar("descale_v", kDescaleV), scalar("descale_s", kDescaleS),
        scalar("scale_s", kScaleS), scalar("scale_o", kScaleO), attributes<fe::graph::SDPA_fp8_attributes>());
    make_output(out);
    for (const auto& [largest, uid] : {std::pair(largest_s, kLargestS), std::pair(largest_o, kLargestO)})
      largest->set_output(true).set_uid(uid).set_data_type(fe::DataType_t::FLOAT).set_dim({1, 1, 1, 1}).set_stride({1, 1, 1, 1});
  }

  const SdpaShape& s_;
  std::unique_ptr<fe::graph::Graph> graph_;
};

class Plan {
 public:
  Plan(const SdpaShape& shape, cudnnHandle_t handle, std::shared_ptr<fe::KernelCache> kernels)
      : graph_(Description(shape, std::move(kernels)).take()) {
    check(graph_->validate(), "checking the graph");
    check(graph_->build_operation_graph(handle), "describing the graph");
    check(graph_->create_execution_plans({fe::HeurMode_t::A}), "choosing a kernel");
    check(graph_->check_support(), "choosing a kernel");
    check(graph_->build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE), "building the kernel");
    check(graph_->get_workspace_size(workspace_), "asking for the workspace");
  }

  int64_t workspace() const { return workspace_; }

  void run(cudnnHandle_t handle, const SdpaShape& shape, const SdpaPointers& p) const {
    const auto input = [](const void* data) { return const_cast<void*>(data); };
    std::unordered_map<int64_t, void*> data{{kQ, input(p.q)}, {kK, input(p.k)}, {kV, input(p.v)}, {kOut, p.out}};
    if (shape.counted) {
      data[kQueryCounts] = input(p.query_counts);
      data[kKeyCounts] = input(p.key_counts);
    }
    if (shape.element == Element::e4m3) {
      for (const Uid uid : {kDescaleQ, kDescaleK, kDescaleV, kScaleO}) data[uid] = input(p.constants);
      data[kDescaleS] = input(p.constants + 1);
      data[kScaleS] = input(p.constants + 2);
      data[kLargestS] = p.unused;
      data[kLargestO] = p.unused + 1;
    }
    check(graph_->execute(handle, data, p.workspace), "running the kernel");
  }

 private:
  std::unique_ptr<fe::graph::Graph> graph_;
  int64_t workspace_ = 0;
};

class Session final : public Sdpa {
 public:
  explicit Session(Plans plans) : kind_(plans) { check(fe::detail::create_handle(&handle_), "opening a handle"); }
  ~Session() override {
    plans_.clear();
    kernels_.clear();
    fe::detail::destroy_handle(handle_);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  int64_t prepare(const SdpaShape& shape) override {
    const auto known = plans_.find(shape);
    if (known != plans_.end()) return known->second.workspace();
    return plans_.emplace(shape, Plan(shape, handle_, kernels_of(shape))).first->second.workspace();
  }

  void run(const SdpaShape& shape, const SdpaPointers& p, CUstream_st* stream) override {
    const auto plan = plans_.find(shape);
    if (plan == plans_.end()) throw std::runtime_error("cuDNN: this shape was not prepared");
    check(fe::detail::set_stream(handle_, stream), "setting the stream");
    plan->second.run(handle_, shape, p);
  }

  int64_t plans() const override { return static_cast<int64_t>(plans_.size()); }

 private:
  // Graphs of one structure share a cache.
  std::shared_ptr<fe::KernelCache> kernels_of(const SdpaShape& shape) {
    if (kind_ == Plans::exact) return nullptr;
    auto& kernels = kernels_[{shape.element, shape.counted}];
    if (!kernels) kernels = std::make_shared<fe::KernelCache>();
    return kernels;
  }

  const Plans kind_;
  cudnnHandle_t handle_ = nullptr;
  std::map<std::pair<Element, bool>, std::shared_ptr<fe::KernelCache>> kernels_;
  std::map<SdpaShape, Plan> plans_;
};

}  // namespace

std::unique_ptr<Sdpa> open_sdpa(Plans plans) {
  if (fe::cudnn_dlhandle == nullptr) fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW);
  if (fe::cudnn_dlhandle == nullptr) throw std::runtime_error(std::string("libcudnn.so.9 cannot be opened: ") + dlerror());
  return std::make_unique<Session>(plans);
}

}  // namespace longtake::cudnn
