// What a MAGI-1 run needs, what there is, and what would make it fit.
#include "runtime/magi_memory.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>

#include "base/cuda.h"
#include "base/error.h"
#include "models/magi/backbone.h"
#include "runtime/machine.h"
#include "runtime/magi_recipe.h"
#include "tests/catch.h"
#include "tests/devices.h"
#include "tests/models/magi_folder.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;

namespace {

GenerateOptions options_of(const ResolvedModel& model, const std::vector<std::string>& set = {}) {
  OptionSet options;
  options.apply_recipe(model.recipe.defaults);
  options.set("prompt=a red circle over grass");
  for (const std::string& assignment : set) options.set(assignment);
  return options.values();
}

ResolvedModel published(const std::string& name) { return {find_recipe(name, default_search()), {}, "no files"}; }

MagiPlanInput planned(const ResolvedModel& model, const GenerateOptions& o, const ModelTarget& target, magi::QuantisedAs as = {}) {
  MagiPlanInput input = plan_magi_model(model, target, as);
  plan_request(input, make_magi_request(model.recipe, o), /*encodes=*/true);
  return input;
}

const ModelTarget kGpu{at::kCUDA, at::kBFloat16};

double chunks_of_kv(const MemoryPlan& plan, double chunk) { return (plan.denoise.kv - plan.decode.kv) / chunk; }

}  // namespace

TEST_CASE("MAGI-1: a plan holds the keys and values of the chunks that key ranges reach") {
  const ResolvedModel model = published("magi-1-4.5b-distill");
  // 12,150 tokens a chunk (spec section 7).
  const MagiPlanInput input = planned(model, options_of(model, {"video.frames=240"}), kGpu);
  const double chunk = magi::kv_bytes(input.config, input.form, 12150);
  const auto chunks = [&](const std::vector<std::string>& set) { return chunks_of_kv(plan_memory(planned(model, options_of(model, set), kGpu)), chunk); };
  CHECK(chunk == Approx(1.69e9).epsilon(0.005));
  // The oldest of four in flight sees two chunks: with a finished one that is five.
  CHECK(chunks({"video.frames=240"}) == Approx(5));
  CHECK(chunks({"video.frames=2400"}) == Approx(5));
  CHECK(chunks({"video.frames=240", "sampling.in_flight=1"}) == Approx(5));
  CHECK(chunks({"video.frames=240", "sampling.in_flight=1", "sampling.key_chunks=2"}) == Approx(2));
  CHECK(chunks({"video.frames=240", "sampling.key_chunks=all"}) == Approx(10));
  CHECK(chunks({"video.frames=48"}) == Approx(2));
}

TEST_CASE("MAGI-1: a run holds the keys and values of its plan") {
  const c10::InferenceMode inference;
  const ModelTarget cpu{at::kCPU, at::kFloat};
  for (const bool distilled : {false, true}) {
    const test::MagiFolder folder(distilled);
    const ResolvedModel model = resolve_model(folder.path().string(), default_search());
    MagiEngine engine(model, cpu, magi::QuantisedAs::working_dtype);
    for (const std::vector<std::string>& set : std::vector<std::vector<std::string>>{
             {"video.frames=48"}, {"video.frames=48", "sampling.in_flight=2"}, {"video.frames=48", "sampling.key_chunks=all"}, {"policy=causal"}}) {
      const GenerateOptions o = options_of(model, set);
      const MagiRequest request = make_magi_request(model.recipe, o);
      engine.encode(request.prompts);
      const RunStats stats = engine.run(request, {});
      const MemoryPlan plan = plan_memory(planned(model, o, cpu));
      CHECK(plan.denoise.kv - plan.decode.kv == static_cast<double>(stats.kv_bytes));
    }
  }
}

TEST_CASE("MAGI-1: stages are planned from files' headers, and a known caption needs no text encoder") {
  test::MagiFolder folder(/*distilled=*/true);
  const ResolvedModel model = resolve_model(folder.path().string(), default_search());
  const ModelTarget cpu{at::kCPU, at::kFloat};
  MagiPlanInput input = planned(model, options_of(model), cpu);
  double stored = 0;
  for (const auto& [name, tensor] : folder.weights()) stored += static_cast<double>(tensor.nbytes());
  CHECK(input.transformer.stored_bytes == stored);
  const MemoryPlan plan = plan_memory(input);
  CHECK(plan.denoise.weights == stored);
  CHECK(plan.text.weights > 0);
  CHECK(plan.text.weights < input.text_encoder.stored_bytes);
  // Views of a file count as far as they are read: nothing before frames are coded, and the decoder's half alone where none are encoded.
  CHECK(plan.denoise.vae == 0);
  CHECK(plan.decode.vae == Approx(input.vae_weights.stored_bytes / 2));
  CHECK(plan.load.total() == 0);  // views of the files, which nobody has read yet
  const MemoryPlan converted = plan_memory(planned(model, options_of(model), {at::kCPU, at::kBFloat16}));
  CHECK(converted.load.weights == Approx(stored * 1.5));
  CHECK(converted.denoise.weights == Approx(stored * 1.5));  // what stays in float32 keeps the file mapped
  CHECK(converted.denoise.vae == Approx(input.vae_weights.stored_bytes / 2));
  plan_request(input, input.request, /*encodes=*/false);
  CHECK(plan_memory(input).text.total() == 0);
  // Decoding beside denoising, and given frames, add what the VAE works with.
  input.request.run.decode_ahead = true;
  CHECK(plan_memory(input).denoise.coding > 0);
  CHECK(plan.denoise.coding == 0);
  input.request.run.decode_ahead = false;
  input.request.given = at::full({3, 1, 32, 48}, 0.5, at::kFloat);
  CHECK(plan_memory(input).denoise.total() >= plan.denoise.total());
  CHECK(plan_memory(input).decode.vae == Approx(input.vae_weights.stored_bytes));
}

TEST_CASE("MAGI-1: frames that are shown before the run's own are held where they go in all stages") {
  const ResolvedModel model = published("magi-1-4.5b-distill");
  for (const bool ahead : {false, true}) {
    MagiPlanInput input = planned(model, options_of(model, {"video.frames=96"}), {at::kCPU, at::kBFloat16});
    input.request.run.decode_ahead = ahead;
    input.request.shown_frames = 100;
    const MemoryPlan none = plan_memory(input);
    input.frames_go = FrameTarget::tensors;
    const MemoryPlan behind = plan_memory(input);
    const double held = frame_target_bytes(FrameTarget::tensors, true, input.request.config.run.height, input.request.config.run.width, 24, 196, 100, 24);
    for (const MemoryStage stage : kMemoryStages) {
      INFO(name_of(stage));
      CHECK(behind.stage(stage).total() - none.stage(stage).total() == Approx(held));
    }
  }
}

TEST_CASE("MAGI-1: the plan of the published model at 720x720") {
  const ResolvedModel model = published("magi-1-4.5b-distill");
  const MemoryPlan plan = plan_memory(planned(model, options_of(model), kGpu));
  INFO(memory_table(plan));
  CHECK(plan.text.weights == Approx(19e9).epsilon(0.01));     // T5 v1.1 XXL in float32
  CHECK(plan.load.weights == Approx(8.92e9 + 0.08e9).epsilon(0.01));
  CHECK(plan.denoise.vae == Approx(1.23e9).epsilon(0.01));
  const ResolvedModel quantised = published("magi-1-4.5b-distill-fp8");
  const double narrow = plan_memory(planned(quantised, options_of(quantised), kGpu, magi::QuantisedAs::fp8)).denoise.weights;
  CHECK(narrow < 0.6 * plan.denoise.weights);
  // A GPU that could compute in fp8 changes nothing where no layer is quantised.
  CHECK(plan_memory(planned(model, options_of(model), kGpu, magi::QuantisedAs::fp8)).peak() == plan.peak());
}

TEST_CASE("MAGI-1: a run that does not fit is refused with what it needs, what there is and what would help") {
  const ResolvedModel model = published("magi-1-4.5b-distill");
  const GenerateOptions o = options_of(model, {"video.frames=240"});
  MagiPlanInput input = planned(model, o, kGpu);
  input.encodes = false;
  const MemoryPlan plan = plan_memory(input);
  const double room = plan.peak() - 1;
  CHECK_NOTHROW(check_memory(o, plan, memory_outlook(o, input, plan.peak()), {plan.peak(), "free"}));
  for (const MemoryRemedy& remedy : memory_remedies(o, memory_outlook(o, input, room), room)) {
    INFO(remedy.flags);
    CHECK(remedy.peak < plan.peak());
  }
  try {
    check_memory(o, plan, memory_outlook(o, input, room), {room, "free on cuda:0"});
    FAIL("expected an error");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::no_memory);
    CHECK_THAT(error.what(), ContainsSubstring("free on cuda:0") && ContainsSubstring("it fits with --offload (") && ContainsSubstring("--in-flight 1 (") &&
                                 ContainsSubstring("--size ") && ContainsSubstring("--memory-budget") && !ContainsSubstring("--window"));
  }
  // The flags do what is said of them, alone and, where there is very little, together.
  ModelTarget away = kGpu;
  away.offload = true;
  const auto remedies = memory_remedies(o, memory_outlook(o, input, 1e9), 1e9);
  for (const auto& [flag, set, target] : std::vector<std::tuple<std::string, std::vector<std::string>, ModelTarget>>{
           {"--in-flight 1", {"sampling.in_flight=1"}, kGpu},
           {"--offload", {}, away},
           {"--offload --in-flight 1 --key-chunks 2", {"sampling.in_flight=1", "sampling.key_chunks=2"}, away}}) {
    std::vector<std::string> all = set;
    all.push_back("video.frames=240");
    MagiPlanInput changed = planned(model, options_of(model, all), target);
    changed.encodes = false;
    const auto found = std::find_if(remedies.begin(), remedies.end(), [&, name = flag](const MemoryRemedy& r) { return r.flags == name; });
    INFO(flag);
    REQUIRE(found != remedies.end());
    CHECK(plan_memory(changed).peak() == Approx(found->peak));
  }
}

TEST_CASE("MAGI-1: where memory is short a run decodes behind its last row, and with Wan's VAE then fewer latents at once") {
  const test::MagiWanFolder wan;
  const test::MagiFolder own(/*distilled=*/true);
  for (const auto& path : {wan.path(), own.path()}) {
    const ResolvedModel model = resolve_model(path.string(), default_search());
    GenerateOptions o = options_of(model, {"video.size=512x512"});  // decoding is what takes most
    MagiPlanInput input = planned(model, o, {at::kCPU, at::kFloat});
    input.request.run.decode_ahead = true;
    const auto peak = [&](int latents, bool ahead) {
      MagiPlanInput other = input;
      other.request.decode_latents = latents, other.request.run.decode_ahead = ahead;
      return plan_memory(other).peak();
    };
    const auto chosen = [&](double room) {
      const DecodeChoice choice = choose_decoding(o, input, room);
      return std::pair(choice.latents, choice.ahead);
    };
    REQUIRE(input.request.decode_latents == 2);
    REQUIRE(peak(1, false) < peak(2, false));
    CHECK(chosen(peak(2, true)) == std::pair(2, true));
    CHECK(chosen(peak(2, true) - 1) == std::pair(2, false));
    const bool is_wan = path == wan.path();
    CHECK(chosen(peak(2, false) - 1) == std::pair(is_wan ? 1 : 2, false));
    CHECK(chosen(1) == std::pair(is_wan ? 1 : 2, false));
    o.decode_latents = 2;
    CHECK(chosen(1) == std::pair(2, false));
  }
}

TEST_CASE("MAGI-1: decoding alone is planned without the transformer, and refused where it does not fit") {
  const test::MagiWanFolder wan;
  const test::MagiFolder own(/*distilled=*/true);
  for (const auto& path : {wan.path(), own.path()}) {
    const ResolvedModel model = resolve_model(path.string(), default_search());
    const GenerateOptions o = options_of(model);
    const MagiPlanInput whole = planned(model, o, {at::kCPU, at::kFloat});
    MagiPlanInput input = plan_magi_decoder(model, {at::kCPU, at::kFloat});
    input.request = whole.request;
    const MemoryPlan plan = plan_memory(input);
    CHECK(plan.peak() == plan.decode.total());
    CHECK(plan.decode.weights + plan.decode.kv + plan.load.total() + plan.text.total() + plan.denoise.total() == 0);
    CHECK(plan.decode.coding == plan_memory(whole).decode.coding);
    CHECK(plan.decode.vae == plan_memory(whole).decode.vae);
    CHECK_NOTHROW(check_memory(o, plan, memory_outlook(o, input, plan.peak()), {plan.peak(), "free"}));
    for (const bool on_cpu : {true, false}) {
      input.on_cpu = on_cpu;
      try {
        check_memory(o, plan, memory_outlook(o, input, 1e6), {1e6, "free here"});
        FAIL("expected an error");
      } catch (const Error& error) {
        CHECK(error.code() == ExitCode::no_memory);
        CHECK_THAT(error.what(), ContainsSubstring("while decoding") && ContainsSubstring("free here") &&
                                     ContainsSubstring(on_cpu ? "where there is more" : "--device cpu") && !ContainsSubstring("--size"));
      }
    }
  }
}

TEST_CASE("MAGI-1: a row takes what is planned on a GPU to 15 %") {
  const c10::InferenceMode inference;
  const at::Device gpu(at::kCUDA, 0);
  if (test_devices().size() < 2) LONGTAKE_SKIP("there is no GPU");
  const at::Tensor something = at::randn({8}, gpu);
  if (PeakMemory(gpu).bytes() == 0) LONGTAKE_SKIP("this LibTorch does not tell a GPU's peak memory");
  constexpr int64_t kFrames = 4, kSide = 64, kTokens = kFrames * kSide / 2 * kSide / 2, kItems = 3;
  const at::ScalarType dtype = at::kBFloat16;
  for (const bool gated : {false, true}) {
    magi::ModelConfig c = test::tiny_magi_config();
    c.dim = 768, c.ffn_dim = 3072, c.heads = 6, c.kv_heads = 2, c.head_width = 128, c.gated_mlp = gated;
    auto weights = test::tiny_magi_weights(c);
    for (auto& [name, tensor] : weights) tensor = tensor.to(gpu);
    test::MapSource source(weights, dtype);
    const magi::Transformer transformer(source, c, /*distilled=*/false);
    const magi::TextKv text = magi::prepare_text(transformer, at::randn({7, c.caption_dim}));
    const magi::TextKv none = magi::prepare_text(transformer, transformer.null_caption().narrow(0, 0, 5));
    const std::vector<const magi::TextKv*> texts(kItems, &text);
    const magi::MagiBackbone backbone(transformer, {{texts, false, 0}}, none,
                                      {.chunks = {{0, kFrames}, {kFrames, kFrames}, {2 * kFrames, kFrames}}, .latent_height = kSide, .latent_width = kSide});
    KvCache kv(backbone.kv_shape(), dtype, gpu);
    std::vector<WorkItem> items;
    std::vector<at::Tensor> inputs;
    for (int chunk = 0; chunk < kItems; ++chunk) {
      items.push_back({.chunk = chunk, .timesteps = std::vector<double>(kFrames, 0.5), .keys = {0, (chunk + 1) * kTokens}});
      inputs.push_back(backbone.embed(at::randn({4, kFrames, kSide, kSide})));
    }
    backbone.forward(items, inputs, kv);  // what libraries keep is no row's
    const double before = static_cast<double>(PeakMemory(gpu).bytes());
    const PeakMemory peak(gpu);
    backbone.forward(items, inputs, kv);
    const magi::ComputeForm form{.value_bytes = static_cast<int64_t>(c10::elementSize(dtype)), .fused = cuda::built()};
    INFO("gated " << gated);
    CHECK(magi::row_bytes(c, form, {.rows = kItems * kTokens}) == Approx(static_cast<double>(peak.bytes()) - before).epsilon(0.15));
  }
}

TEST_CASE("MAGI-1: offloading leaves two layers on the device") {
  const ResolvedModel model = published("magi-1-4.5b-distill");
  ModelTarget away = kGpu;
  away.offload = true;
  const MagiPlanInput input = planned(model, options_of(model), kGpu);
  const MemoryPlan plain = plan_memory(input), offloaded = plan_memory(planned(model, options_of(model), away));
  const double layer = magi::layer_bytes(input.config, input.form, false);
  CHECK(offloaded.host == Approx(34 * layer));
  CHECK(plain.denoise.weights - offloaded.denoise.weights == Approx(32 * layer));
  CHECK(offloaded.load.total() < plain.load.total());
}

TEST_CASE("MAGI-1: a model with its layers in host memory makes the same video, with files and at random") {
  const c10::InferenceMode inference;
  for (const bool quantised : {false, true}) {
    const test::MagiFolder folder(/*distilled=*/true, quantised);
    const ResolvedModel model = resolve_model(folder.path().string(), default_search());
    Recipe sizes = model.recipe;
    sizes.architecture.vae_dim = 256, sizes.architecture.vae_depth = 1, sizes.architecture.vae_heads = 4;
    for (const auto& seed : {std::optional<uint64_t>(), std::optional<uint64_t>(3)}) {
      if (quantised && seed) continue;
      const ResolvedModel opened = seed ? ResolvedModel{sizes, {}, "no files"} : model;
      std::vector<at::Tensor> videos;
      for (const bool offload : {false, true}) {
        MagiEngine engine(opened, {at::kCPU, at::kBFloat16, false, offload}, quantised ? magi::QuantisedAs::fp8 : magi::QuantisedAs::working_dtype, seed);
        const MagiRequest request = make_magi_request(opened.recipe, options_of(opened));
        engine.encode(request.prompts);
        engine.load();
        CHECK(engine.transformer().offloaded() == offload);
        GenerateHooks hooks;
        hooks.on_latents = [&](int, const at::Tensor& latents) { videos.push_back(latents.clone()); };
        engine.run(request, hooks);
      }
      REQUIRE(videos.size() == 2);
      CHECK(at::equal(videos[0], videos[1]));
    }
  }
}
