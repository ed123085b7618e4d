// The MAGI-1 transformer against the reference: one and several chunks at different noise levels, a filled cache,
// chunks alone, distilled step sizes, the switches of the large model, and guided velocities of whole steps.
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "models/magi/backbone.h"
#include "runtime/magi_schedule.h"
#include "runtime/magi_step.h"
#include "tests/golden/golden.h"

using namespace longtake;

namespace {

struct Model {
  std::string set;
  golden::Target target;
  magi::Config config;
  Checkpoint io;
  nlohmann::json calls;
  std::unique_ptr<magi::Transformer> transformer;

  Model(const std::filesystem::path& root, const std::string& name, const golden::Target& t)
      : set(name),
        target(t),
        config(magi::Config::read(root / name / "config.json")),
        io(Checkpoint::open(root / name / "dit_forward.safetensors")) {
    std::ifstream(root / name / "dit_forward.json") >> calls;
    auto source = golden::source_of(root / name / "dit.safetensors", target);
    transformer = std::make_unique<magi::Transformer>(source, config.model, config.engine.distilled);
    CHECK(source.unused().empty());
  }

  magi::TextKv text(const at::Tensor& y, const at::Tensor& mask) const {
    return magi::prepare_text(*transformer, y.flatten(0, -2).narrow(0, 0, mask.sum().item<int64_t>()));
  }
  double step_size(int steps, double interval) const {
    magi::ScheduleSettings settings;
    settings.steps = steps;
    return config.engine.distilled ? magi::step_size(settings, interval) : 0;
  }
  // Distilled models add the sinusoid of dt, whose angles are 1000 * dt * exp(...): one unit in the last place of a
  // float32 exp, in which the reference's vector library and ours differ, turns them by 5e-4 at dt 8 and in proportion
  // beyond. (With the reference's own values of exp, all errors here are 2e-6 or less.)
  bool agrees(const std::string& name, const at::Tensor& value, const std::string& wanted, double dt = 8) const {
    const double tolerance = config.engine.distilled ? 1e-4 * std::max(1.0, dt / 8) : 1e-5;
    return golden::within_norm(set + " " + name + target.name(), value, io.tensor(wanted),
                               target.tolerance(tolerance, 3e-2));
  }
};

// One call's inputs, and a video of `first` chunks in the cache and those of the call.
struct Call {
  const Model& m;
  std::string name;
  int first;
  at::Tensor x, t;  // x [chunks, 16, 6, h, w]
  std::vector<magi::TextKv> texts;
  magi::TextKv none;
  double dt;

  Call(const Model& model, const std::string& call, const std::string& prefix = "", int first_chunk = -1)
      : m(model),
        name(call + "." + prefix),
        first(first_chunk >= 0 ? first_chunk : int(m.calls.at(call).at("slice_point"))) {
    t = m.io.tensor(name + "t").flatten();
    const at::Tensor input = m.io.tensor(name + "x"), y = m.io.tensor(name + "y"), mask = m.io.tensor(name + "mask");
    x = input.size(0) == 1 ? at::stack(input[0].split(6, 1)) : input;
    for (int64_t i = 0; i < t.size(0); ++i) texts.push_back(m.text(y[i], mask[i]));
    dt = m.step_size(m.calls.at(call).at("num_steps"), 1);
  }
  int chunks() const { return static_cast<int>(t.size(0)); }

  // Two branches that differ in the learned row alone, and one that stores nothing.
  magi::MagiBackbone backbone() const {
    std::vector<const magi::TextKv*> of_chunk(first, &texts[0]);
    for (const magi::TextKv& text : texts) of_chunk.push_back(&text);
    return backbone({{of_chunk, false, 0}, {of_chunk, true, 0}, {of_chunk, true, -1}});
  }
  magi::MagiBackbone backbone(std::vector<magi::Branch> branches) const {
    WindowGeometry g;
    for (int i = 0; i < first + chunks(); ++i) g.chunks.push_back({6 * i, 6});
    g.latent_height = x.size(3);
    g.latent_width = x.size(4);
    return {*m.transformer, std::move(branches), none, g};
  }
  std::vector<WorkItem> items(const std::string& ranges, int branch = 0) const {
    const at::Tensor keys = m.io.tensor(name + ranges);
    std::vector<WorkItem> out;
    for (int i = 0; i < chunks(); ++i)
      out.push_back({.chunk = first + i,
                     .branch = branch,
                     .timesteps = std::vector<double>(6, t[i].item<double>()),
                     .keys = {keys[i][0].item<int64_t>(), keys[i][1].item<int64_t>()},
                     .step_size = dt});
    return out;
  }
  // -> [1, 16, 6*chunks, h, w]
  at::Tensor run(const magi::MagiBackbone& backbone, std::span<const WorkItem> items, KvCache& kv) const {
    std::vector<at::Tensor> inputs, out;
    for (const WorkItem& item : items) inputs.push_back(backbone.embed(x[item.chunk - first]));
    const auto hidden = backbone.forward(items, inputs, kv);
    for (size_t i = 0; i < items.size(); ++i) out.push_back(backbone.head(hidden[i], items[i].timesteps));
    return at::cat(out, 1).unsqueeze(0);
  }
};

KvCache fresh(const Model& m, const magi::MagiBackbone& backbone) {
  return KvCache(backbone.kv_shape(), m.transformer->dtype(), m.transformer->device());
}

at::Tensor stored(const KvCache& kv, int64_t layer, int64_t begin, int64_t end) {
  const KvLayer& l = kv.layer(layer, 0);
  return at::cat({l.k, l.v}, 2).slice(0, begin, end);
}

void check_single(const Model& m) {
  const Call c(m, "single");
  const auto backbone = c.backbone();
  KvCache kv = fresh(m, backbone);
  CHECK(m.agrees("single", c.run(backbone, c.items("kv_range"), kv), "single.out"));
  CHECK(m.agrees("single, null flag", c.run(backbone, c.items("kv_range", 1), kv), "single.out_null_flag"));
  if (!m.io.contains("single.tap.rope")) return;
  const at::Device device = m.target.device;
  const at::Tensor x = m.transformer->patch_embed(c.x[0].to(device));
  CHECK(m.agrees("patches", x.t(), "single.tap.x_embedder"));
  const at::Tensor condition =
      m.transformer->condition()(c.t.to(device), c.dt > 0 ? at::full({1}, c.dt).to(device) : at::Tensor(), at::zeros({1}).to(device));
  CHECK(m.agrees("condition", condition, "single.tap.condition"));
  const at::Tensor y = m.io.tensor("single.y").flatten(0, -2);
  CHECK(m.agrees("caption", m.transformer->text_embed(y.narrow(0, 0, c.texts[0].length).to(device)),
                 "single.tap.y_xattn"));
  CHECK(m.agrees("rotations", m.transformer->rotations(0, 6, c.x.size(3) / 2, c.x.size(4) / 2), "single.tap.rope"));
  CHECK(m.agrees("gates of layer 0", m.transformer->gates(0, condition), "single.tap.layer0_gate_pre_tanh"));
}

void check_multi(const Model& m) {
  Call c(m, "multi");
  const auto backbone = c.backbone();
  KvCache kv = fresh(m, backbone);
  CHECK(m.agrees("multi", c.run(backbone, c.items("kv_range"), kv), "multi.out"));
  CHECK(m.agrees("multi, second ranges", c.run(backbone, c.items("kv_range2"), kv), "multi.out2"));
  auto items = c.items("kv_range2");
  for (WorkItem& item : items) item.writes_kv = false;
  KvCache untouched = fresh(m, backbone);
  CHECK(m.agrees("multi, nothing stored", c.run(backbone, items, untouched), "multi.out2"));
  CHECK(stored(untouched, 0, 0, untouched.shape().tokens).abs().max().item<float>() == 0);
  if (!m.config.engine.distilled) return;
  c.dt = m.step_size(64, 1);
  CHECK(m.agrees("multi, 64 steps", c.run(backbone, c.items("kv_range"), kv), "multi.out_num_steps_64", c.dt));
  for (int interval : {1, 2}) {
    c.dt = m.step_size(12, interval);
    const std::string name = fmt::format("out_num_steps_12_interval_{}", interval);
    CHECK(m.agrees("multi, " + name, c.run(backbone, c.items("kv_range"), kv), "multi." + name));
  }
}

void check_cached(const Model& m) {
  const Call clean(m, "cached", "clean_", 0), c(m, "cached");
  const auto& call = m.calls.at("cached");
  const int null_flag = call.at("clean_caption_dropout_mask");
  const auto backbone = c.backbone();
  KvCache kv = fresh(m, backbone);
  CHECK(
      m.agrees("clean chunk", clean.run(clean.backbone(), clean.items("kv_range", null_flag), kv), "cached.clean_out"));
  const int64_t tokens = backbone.geometry().chunk_tokens(0);
  const bool taps = m.io.contains("cached.cache.layer0");
  for (int64_t layer = 0; taps && layer < kv.shape().layers; ++layer)
    CHECK(m.agrees(fmt::format("cache of layer {}", layer), stored(kv, layer, 0, tokens),
                   fmt::format("cached.cache.layer{}", layer)));
  auto items = c.items("kv_range");
  items.back().writes_kv = false;
  CHECK(m.agrees("cached", c.run(backbone, items, kv), "cached.out"));
  if (taps) CHECK(m.agrees("what it stored", stored(kv, 0, tokens, 2 * tokens), "cached.cache_after.layer0_chunk1"));
  CHECK(stored(kv, 0, 2 * tokens, 3 * tokens).abs().max().item<float>() == 0);
  CHECK(m.agrees("cached, second ranges", c.run(backbone, c.items("kv_range2"), kv), "cached.out2"));
}

void check_batch(const Model& m) {
  const Call c(m, "batch");
  const auto backbone = c.backbone();
  KvCache kv = fresh(m, backbone);
  auto items = c.items("kv_range", 2);
  for (WorkItem& item : items) item.writes_kv = false;
  const at::Tensor out = c.run(backbone, items, kv);
  CHECK(m.agrees("batch", at::stack(out[0].split(6, 1)), "batch.out"));
}

// A guided step: the row of the schedule that the call was, through the same functions as a run.
void check_step(const Model& m, const std::string& name, KvCache& kv) {
  Call c(m, name);
  const auto& call = m.calls.at(name);
  magi::ScheduleSettings settings = magi::ScheduleSettings::of(m.config);
  settings.steps = call.at("num_steps");
  magi::Row row{.extra_clean = call.at("fwd_extra_1st_chunk"), .nearly_clean = call.at("nearly_clean")};
  const int64_t tokens = kv.shape().tokens / 3;
  const at::Tensor keys = m.io.tensor(name + ".kv_range");
  for (int i = 0; i < c.chunks(); ++i)
    row.chunks.push_back({c.first + i,
                          i == 0 && row.extra_clean ? settings.steps : 0,
                          c.t[i].item<float>(),
                          0,
                          {keys[i][0].item<int64_t>() / tokens, keys[i][1].item<int64_t>() / tokens}});
  c.none = m.text(m.io.tensor(name + ".null_y")[0], m.io.tensor(name + ".null_mask")[0]);
  std::vector<const magi::TextKv*> texts(c.first, &c.texts[0]);
  for (const magi::TextKv& text : c.texts) texts.push_back(&text);
  const auto backbone = c.backbone(magi::guidance_branches(m.config.engine.distilled, texts, c.none));

  const auto items = magi::work_items(row, settings, m.config, tokens);
  std::vector<at::Tensor> inputs, velocities;
  for (const WorkItem& item : items) inputs.push_back(backbone.embed(c.x[item.chunk - c.first]));
  const auto hidden = backbone.forward(items, inputs, kv);
  for (size_t i = 0; i < items.size(); ++i)
    velocities.push_back(items[i].finished ? at::Tensor() : backbone.head(hidden[i], items[i].timesteps));
  const auto guided = magi::guided_velocities(row, m.config, items, velocities);
  CHECK(
      m.agrees(fmt::format("{} ({} items)", name, items.size()), at::cat(guided, 1).unsqueeze(0), name + ".velocity"));
}

}  // namespace

TEST_CASE("MAGI-1's forwards and guided steps are the reference's", "[golden]") {
  const auto root = golden::magi();
  LONGTAKE_GOLDEN_OR_SKIP(root);
  for (const golden::Target& target : golden::targets())
    for (const std::string set : {"base", "distill", "options"}) {
      const Model m(root, set, target);
      check_single(m);
      check_multi(m);
      check_cached(m);
      if (m.calls.contains("batch")) check_batch(m);
      const std::vector<std::vector<std::string>> sequences =
          m.config.engine.distilled
              ? std::vector<std::vector<std::string>>{{"step_grow"},
                                                      {"step_nearly_clean_extra", "step_nearly_clean", "step_plain"}}
              : std::vector<std::vector<std::string>>{{"step_grow", "step_last_quarter"}};
      for (const auto& sequence : sequences) {
        if (!m.calls.contains(sequence[0])) continue;
        const auto backbone = Call(m, "multi").backbone();
        KvCache kv = fresh(m, backbone);
        for (const std::string& name : sequence) check_step(m, name, kv);
      }
    }
}
