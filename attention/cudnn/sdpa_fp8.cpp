#include "attention/cudnn/sdpa_fp8.h"

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

enum Uid : int64_t { kQ = 1, kK, kV, kOut, kDescaleQ, kDescaleK, kDescaleV, kDescaleS, kScaleS, kScaleO, kLargestS, kLargestO };

void check(fe::error_t error, const char* step) {
  if (error.is_bad()) throw std::runtime_error(std::string("cuDNN, ") + step + ": " + error.get_message());
}

void check(cudnnStatus_t status, const char* step) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw std::runtime_error(std::string("cuDNN, ") + step + ": " + fe::detail::get_error_string(status));
}

using Tensor = fe::graph::Tensor_attributes;

Tensor tensor(const char* name, Uid uid, std::vector<int64_t> sizes, std::vector<int64_t> strides, fe::DataType_t type) {
  return Tensor().set_name(name).set_uid(uid).set_dim(sizes).set_stride(strides).set_data_type(type);
}

Tensor scalar(const char* name, Uid uid) { return tensor(name, uid, {1, 1, 1, 1}, {1, 1, 1, 1}, fe::DataType_t::FLOAT); }

std::unique_ptr<fe::graph::Graph> describe(const SdpaShape& s) {
  auto graph = std::make_unique<fe::graph::Graph>();
  graph->set_io_data_type(fe::DataType_t::FP8_E4M3)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const int64_t token = s.heads * s.width;
  const auto rows = [&](const char* name, Uid uid, int64_t count, int64_t stride) {
    return tensor(name, uid, {s.sequences, s.heads, count, s.width}, {stride, s.width, token, 1}, fe::DataType_t::FP8_E4M3);
  };
  auto attributes = fe::graph::SDPA_fp8_attributes().set_name("attend").set_generate_stats(false).set_attn_scale(s.scale);
  auto [out, stats, largest_s, largest_o] = graph->sdpa_fp8(
      graph->tensor(rows("q", kQ, s.queries, s.query_stride)), graph->tensor(rows("k", kK, s.keys, s.key_stride)),
      graph->tensor(rows("v", kV, s.keys, s.key_stride)), graph->tensor(scalar("descale_q", kDescaleQ)),
      graph->tensor(scalar("descale_k", kDescaleK)), graph->tensor(scalar("descale_v", kDescaleV)),
      graph->tensor(scalar("descale_s", kDescaleS)), graph->tensor(scalar("scale_s", kScaleS)),
      graph->tensor(scalar("scale_o", kScaleO)), attributes);
  out->set_output(true).set_uid(kOut).set_data_type(fe::DataType_t::FP8_E4M3);
  out->set_dim({s.sequences, s.heads, s.queries, s.width}).set_stride({s.queries * token, s.width, token, 1});
  for (const auto& [largest, uid] : {std::pair(largest_s, kLargestS), std::pair(largest_o, kLargestO)})
    largest->set_output(true).set_uid(uid).set_data_type(fe::DataType_t::FLOAT).set_dim({1, 1, 1, 1}).set_stride({1, 1, 1, 1});
  return graph;
}

class Sdpa final : public SdpaFp8 {
 public:
  Sdpa() { check(fe::detail::create_handle(&handle_), "opening a handle"); }
  ~Sdpa() override {
    plans_.clear();
    fe::detail::destroy_handle(handle_);
  }
  Sdpa(const Sdpa&) = delete;
  Sdpa& operator=(const Sdpa&) = delete;

  int64_t prepare(const SdpaShape& shape) override {
    const auto known = plans_.find(shape);
    if (known != plans_.end()) return known->second.workspace;
    Plan plan{describe(shape), 0};
    check(plan.graph->validate(), "checking the graph");
    check(plan.graph->build_operation_graph(handle_), "describing the graph");
    check(plan.graph->create_execution_plans({fe::HeurMode_t::A}), "choosing a kernel");
    check(plan.graph->check_support(), "choosing a kernel");
    check(plan.graph->build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE), "building the kernel");
    check(plan.graph->get_workspace_size(plan.workspace), "asking for the workspace");
    return plans_.emplace(shape, std::move(plan)).first->second.workspace;
  }

  void run(const SdpaShape& shape, const SdpaPointers& p, CUstream_st* stream) override {
    const auto plan = plans_.find(shape);
    if (plan == plans_.end()) throw std::runtime_error("cuDNN: this shape was not prepared");
    check(fe::detail::set_stream(handle_, stream), "setting the stream");
    const auto input = [](const void* data) { return const_cast<void*>(data); };
    std::unordered_map<int64_t, void*> data{
        {kQ, input(p.q)}, {kK, input(p.k)}, {kV, input(p.v)}, {kOut, p.out}, {kLargestS, p.unused}, {kLargestO, p.unused + 1},
        {kDescaleS, input(p.constants + 1)}, {kScaleS, input(p.constants + 2)}};
    for (const Uid uid : {kDescaleQ, kDescaleK, kDescaleV, kScaleO}) data[uid] = input(p.constants);
    check(plan->second.graph->execute(handle_, data, p.workspace), "running the kernel");
  }

 private:
  struct Plan {
    std::unique_ptr<fe::graph::Graph> graph;
    int64_t workspace;
  };
  cudnnHandle_t handle_ = nullptr;
  std::map<SdpaShape, Plan> plans_;
};

}  // namespace

std::unique_ptr<SdpaFp8> open_sdpa_fp8() {
  if (fe::cudnn_dlhandle == nullptr) fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW);
  if (fe::cudnn_dlhandle == nullptr) throw std::runtime_error(std::string("libcudnn.so.9 cannot be opened: ") + dlerror());
  return std::make_unique<Sdpa>();
}

}  // namespace longtake::cudnn
