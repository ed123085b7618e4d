// What a run needs, what there is, and what would make it fit.
#include "runtime/memory_check.h"

#include <fstream>

#include "base/error.h"
#include "models/wan_vae/cost.h"
#include "runtime/engine.h"
#include "runtime/memory_plan.h"
#include "tests/catch.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

GenerateOptions large_options(const std::vector<std::pair<std::string, std::string>>& more = {}) {
  OptionSet options;
  options.apply_recipe(resolve_model("skyreels-v2-df-1.3b-540p", default_search()).recipe.defaults);
  options.set({"model", "skyreels-v2-df-1.3b-540p", "test"}, SourceLevel::flag);
  options.set({"prompt", "a boat", "test"}, SourceLevel::flag);
  for (const auto& [key, value] : more) options.set({key, value, "test"}, SourceLevel::flag);
  return options.values();
}

PlanInput planned(const GenerateOptions& o, const at::Device& device = at::kCUDA) {
  const ResolvedModel model = resolve_model(o.model, default_search());
  PlanInput input = plan_model(model, {device, *dtype_named(o.dtype), o.precision == "fp8", o.offload, dtype_named(o.vae_dtype)}, o.fps, true);
  input.form.fused = device.is_cuda();  // as a build with kernels has it
  plan_request(input, make_request(o));
  return input;
}

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

}  // namespace

// Measured on an H200 by `longtake bench generate --random-weights` (docs/performance.md).
TEST_CASE("the plan comes within 5 % of what an H200 measured") {
  const std::vector<std::pair<std::string, std::string>> fixed{{"plan", LONGTAKE_SOURCE_DIR "/configs/plans/motioncache-fixed-50.json"}};
  auto in_fp8 = fixed;
  in_fp8.push_back({"run.precision", "fp8"});
  const MemoryPlan bf16 = plan_memory(planned(large_options(fixed))), fp8 = plan_memory(planned(large_options(in_fp8)));
  INFO(memory_table(bf16) << memory_table(fp8));
  CHECK(bf16.denoise.total() == Approx(24.6e9).epsilon(0.05));
  CHECK(fp8.denoise.total() == Approx(15.1e9).epsilon(0.05));
  CHECK(fp8.decode.total() == Approx(19.9e9).epsilon(0.05));
  CHECK(bf16.denoise.kv == Approx(18.8e9).epsilon(0.03));
  CHECK(fp8.denoise.kv == Approx(10.0e9).epsilon(0.03));
}

TEST_CASE("every remedy lowers the peak it names") {
  // Chunk by chunk: with more of them at work at once there is nothing finished that --kv could forget.
  const std::pair<std::string, std::string> causal{"policy", "causal"}, one_by_one{"sampling.ar_step", "50"};
  const GenerateOptions o = large_options({causal, one_by_one});
  const PlanInput input = planned(o);
  const double peak = plan_memory(input).peak(), room = 12e9;
  const auto remedies = memory_remedies(o, memory_outlook(o, input, room), room);
  REQUIRE(remedies.size() >= 4);
  for (const MemoryRemedy& remedy : remedies) {
    INFO(remedy.flags);
    CHECK(remedy.peak < peak);
  }
  const auto named = [&](const std::string& flag) {
    return std::any_of(remedies.begin(), remedies.end(), [&](const MemoryRemedy& r) { return r.flags == flag; });
  };
  CHECK((named("--precision fp8") && named("--kv stream:2") && named("--offload")));
  // The flags do what is said of them.
  for (const auto& [flag, key, value] : std::vector<std::tuple<std::string, std::string, std::string>>{
           {"--precision fp8", "run.precision", "fp8"}, {"--kv stream:2", "sampling.kv", "stream:2"}, {"--offload", "run.offload", "true"}}) {
    PlanInput changed = planned(large_options({causal, one_by_one, {key, value}}));
    changed.settings.decode_latents = choose_decoding(o, changed, room).latents;
    const auto found = std::find_if(remedies.begin(), remedies.end(), [&, name = flag](const MemoryRemedy& r) { return r.flags == name; });
    CHECK(plan_memory(changed).peak() == Approx(found->peak));
  }
}

TEST_CASE("a run that does not fit is refused with what it needs, what there is and what would help") {
  const GenerateOptions o = large_options({{"policy", "causal"}});
  const PlanInput input = planned(o);
  CHECK_NOTHROW(check_memory(o, plan_memory(input), memory_outlook(o, input, 1e12), {1e12, "free"}));
  for (const double room : {24e9, 12e9, 3e9}) {
    try {
      check_memory(o, plan_memory(input), memory_outlook(o, input, room), {room, "free on cuda:0"});
      FAIL("expected an error");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::no_memory);
      CHECK_THAT(error.what(), ContainsSubstring("free on cuda:0") && ContainsSubstring("while denoising") &&
                                   ContainsSubstring("--memory-budget"));
      if (room > 20e9) CHECK_THAT(error.what(), ContainsSubstring("it fits with") && ContainsSubstring("--precision fp8 ("));
    }
  }
}

TEST_CASE("where memory is short a run decodes behind its windows, and then fewer latents at once") {
  GenerateOptions o = large_options({{"policy", "causal"}, {"sampling.ar_step", "50"}});
  PlanInput input = planned(o);
  input.settings.decode_ahead = true;
  const auto peak = [&](int latents, bool ahead) {
    PlanInput other = input;
    other.settings.decode_latents = latents, other.settings.decode_ahead = ahead;
    return plan_memory(other).peak();
  };
  const auto chosen = [&](double room) {
    const DecodeChoice choice = choose_decoding(o, input, room);
    return std::pair(choice.latents, choice.ahead);
  };
  CHECK(peak(5, true) > peak(5, false));
  CHECK(chosen(peak(5, true)) == std::pair(5, true));
  CHECK(chosen(peak(5, true) - 1) == std::pair(5, false));
  input.settings.denoise.kv = choose_kv("stream:1", AttentionScheme::causal);  // now decoding is what takes most
  REQUIRE(peak(2, false) < peak(3, false));
  CHECK(chosen(peak(3, false) - 1) == std::pair(2, false));
  CHECK(chosen(1) == std::pair(1, false));
  o.decode_latents = 3;
  CHECK(chosen(1) == std::pair(3, false));
}

TEST_CASE("windows that carry their history denoise beside the decoder's, and all but the first beside where frames went") {
  for (const std::string history : {"carry", "reencode"}) {
    PlanInput input = planned(large_options({{"policy", "causal"}, {"video.frames", "257"}, {"sampling.history", history}}), at::kCPU);
    const GenerateSettings& s = input.settings;
    REQUIRE(s.plan.windows.size() > 1);
    const auto held = static_cast<double>(vae_decode_history_bytes(input.vae, s.height, s.width, 4));
    CHECK(plan_memory(input).denoise.coding == (history == "carry" ? held : 0));
    const MemoryPlan alone = plan_memory(input);
    input.frames_go = FrameTarget::video;
    const MemoryPlan encoded = plan_memory(input);
    const double encoder = frame_target_bytes(FrameTarget::video, true, s.height, s.width, 24, s.plan.request.frames, 0, 20);
    CHECK(encoder > 50e6);
    CHECK(encoded.decode.rest - alone.decode.rest == Approx(encoder));
    for (const PlannedRow& row : planned_rows(input, s.plan.windows[0])) CHECK_FALSE(row.encodes_beside);
    for (const PlannedRow& row : planned_rows(input, s.plan.windows[1])) CHECK(row.encodes_beside);
    PlanInput ahead = input;
    ahead.settings.decode_ahead = true;
    CHECK(plan_memory(ahead).decode.rest - encoded.decode.rest == Approx(second_thread_bytes(true)));
    CHECK(plan_memory(ahead).denoise.coding > held);
  }
}

TEST_CASE("frames that are shown before the run's own are held where they go in all stages") {
  const auto plan = [](FrameTarget target, int64_t shown, bool only_decodes = false) {
    const GenerateOptions o = large_options({{"policy", "causal"}, {"video.frames", "17"}});
    PlanInput input = planned(o, at::kCPU);
    RunRequest request = make_request(o);
    request.shown_frames = shown;
    plan_request(input, request);
    input.frames_go = target, input.encodes = true, input.only_decodes = only_decodes;
    return plan_memory(input);
  };
  for (const FrameTarget target : {FrameTarget::video, FrameTarget::tensors}) {
    const MemoryPlan none = plan(FrameTarget::none, 100), alone = plan(target, 0), behind = plan(target, 100);
    const double held = frame_target_bytes(target, true, 544, 960, 24, 117, 100, 20);
    CHECK(held > 100e6);
    for (const MemoryStage stage : kMemoryStages) {
      INFO(name_of(stage));
      CHECK(alone.stage(stage).total() == none.stage(stage).total());  // one push: nothing has gone there before it
      CHECK(behind.stage(stage).total() - none.stage(stage).total() == Approx(held));
    }
    CHECK(plan(target, 100, true).decode.total() - plan(FrameTarget::none, 100, true).decode.total() == Approx(held));
  }
  // Remedies keep it in mind.
  const GenerateOptions o = large_options({{"policy", "causal"}});
  PlanInput input = planned(o, at::kCPU);
  input.frames_go = FrameTarget::tensors, input.shown_frames = 1000;
  CHECK(memory_outlook(o, input, 1e12).peak(o) == plan_memory(input).peak());
}

TEST_CASE("a VAE in bfloat16 takes half the memory, decoding and encoding") {
  const auto plan = [](const char* dtype, bool alone) {
    PlanInput input = planned(large_options({{"policy", "causal"}, {"video.frames", "257"}, {"run.vae_dtype", dtype}}));
    input.only_decodes = alone;
    return plan_memory(input);
  };
  for (const bool alone : {false, true}) {
    const MemoryPlan single = plan("fp32", alone), half = plan("bf16", alone);
    INFO(memory_table(single) << memory_table(half));
    CHECK(half.decode.vae == single.decode.vae / 2);
    CHECK(half.decode.coding == Approx(single.decode.coding / 2).epsilon(0.02));
    CHECK(half.denoise.weights == single.denoise.weights);
  }
  CHECK(plan("auto", false).peak() == plan("fp32", false).peak());
  // It is a remedy where decoding is what takes most.
  const GenerateOptions o = large_options({{"policy", "causal"}, {"run.precision", "fp8"}, {"run.decode_latents", "5"}});
  const PlanInput input = planned(o);
  REQUIRE(plan_memory(input).widest() == MemoryStage::decode);
  const double room = 16.5e9;
  const auto remedies = memory_remedies(o, memory_outlook(o, input, room), room);
  const auto found = std::find_if(remedies.begin(), remedies.end(), [](const MemoryRemedy& r) { return r.flags == "--vae-dtype bf16"; });
  REQUIRE(found != remedies.end());
  GenerateOptions changed = o;
  changed.vae_dtype = "bf16";
  CHECK(plan_memory(planned(changed)).peak() == Approx(found->peak));
}

TEST_CASE("frames are held where they go once the first push is decoded, and nothing begins to be decoded beside a window's last row") {
  const auto of = [](int frames, const std::string& ar_step, FrameTarget target) {
    PlanInput input = planned(large_options({{"policy", "causal"}, {"sampling.steps", "3"}, {"sampling.chunk", "5"}, {"sampling.ar_step", ar_step},
                                             {"video.frames", std::to_string(frames)}}), at::kCPU);
    input.settings.decode_ahead = true;
    input.frames_go = target;
    return input;
  };
  const auto plan = [&](int frames, const std::string& ar_step, FrameTarget target) { return plan_memory(of(frames, ar_step, target)); };
  const auto held = [&](int frames) {
    return plan(frames, "1", FrameTarget::video).decode.rest - plan(frames, "1", FrameTarget::none).decode.rest;
  };
  CHECK(held(17) == 0);  // one push of five latents
  CHECK(held(57) > 50e6);
  // Two chunks: where the first is done one row before the end it waits, and with two rows left it does not.
  CHECK(plan(37, "1", FrameTarget::video).denoise.coding == 0);
  CHECK(plan(37, "2", FrameTarget::video).denoise.coding > 0);
  // Measured of libx264 at 544x960, pushes of 20 frames, 24 fps: 143 MB, and 85 MB where it is brought to its end with each fragment; with pushes
  // of 4 frames 67 MB.
  const auto bytes = [](FrameTarget target, int64_t pushed) { return frame_target_bytes(target, true, 544, 960, 24, 200, 0, pushed); };
  CHECK(bytes(FrameTarget::video, 20) == Approx(143e6).epsilon(0.1));
  CHECK(bytes(FrameTarget::growing_video, 20) == Approx(85e6).epsilon(0.1));
  CHECK(bytes(FrameTarget::growing_video, 4) == Approx(67e6).epsilon(0.1));
  CHECK(bytes(FrameTarget::tensors, 20) == 200 * 3 * 544 * 960);
  CHECK(bytes(FrameTarget::none, 20) == 0);
  CHECK(frame_target_bytes(FrameTarget::video, false, 544, 960, 24, 200, 0, 20) == 0);
}

TEST_CASE("a growing video holds a fragment of whole pushes, whose length goes by its rate") {
  // Frames that wait, by what one of them takes.
  const auto waiting = [](int fps, int64_t shown, int64_t pushed) {
    const auto bytes = [&](int64_t frames) { return frame_target_bytes(FrameTarget::growing_video, true, 544, 960, fps, frames, shown, pushed); };
    const double one = bytes(2) - bytes(1);
    return std::llround((bytes(1000) - bytes(1)) / one) + 1 - 8;
  };
  CHECK(waiting(24, 0, 4) == 12);
  CHECK(waiting(24, 0, 8) == 16);   // 8 are too few
  CHECK(waiting(24, 0, 20) == 20);
  CHECK(waiting(60, 0, 20) == 40);  // 30 at least
  CHECK(waiting(8, 0, 4) == 8);     // never fewer
  CHECK(waiting(24, 200, 4) == 32);
  CHECK(waiting(24, 5, 4) == 15);
  // The rate comes from the options.
  PlanInput slow = planned(large_options({{"policy", "causal"}, {"video.frames", "257"}, {"video.fps", "24"}}), at::kCPU);
  PlanInput fast = planned(large_options({{"policy", "causal"}, {"video.frames", "257"}, {"video.fps", "60"}}), at::kCPU);
  slow.frames_go = fast.frames_go = FrameTarget::growing_video;
  CHECK(plan_memory(fast).decode.rest - plan_memory(slow).decode.rest == Approx(5.5 * 544 * 960 * 20));
}

TEST_CASE("offloading leaves two blocks on the device") {
  const PlanInput plain = planned(large_options()), offloaded = planned(large_options({{"run.offload", "true"}}));
  const MemoryPlan a = plan_memory(plain), b = plan_memory(offloaded);
  const double block = skyreels::block_bytes(plain.config, plain.form, 0);
  CHECK(b.host == Approx(30 * block));
  CHECK(a.denoise.weights - b.denoise.weights == Approx(28 * block));
  CHECK(b.load.total() < a.load.total());
}

TEST_CASE("what may be taken is the least that the system and its control groups leave") {
  const TemporaryFolder folder;
  const std::string root = folder.path().string(), meminfo = "MemTotal: 100 kB\nMemFree: 3 kB\nMemAvailable:   80 kB\n";
  CHECK(available_memory(meminfo, "", root) == 80 * 1024);
  CHECK_FALSE(available_memory("", "", root));
  write(folder.path() / "a" / "memory.max", "50000\n");
  write(folder.path() / "a" / "memory.current", "30000\n");
  write(folder.path() / "a" / "memory.stat", "anon 5\ninactive_file 4000\n");
  write(folder.path() / "a" / "b" / "memory.max", "max\n");
  write(folder.path() / "a" / "b" / "memory.current", "30000\n");
  CHECK(available_memory(meminfo, "0::/a/b\n", root) == 24000);
  CHECK(available_memory(meminfo, "0::/elsewhere\n", root) == 80 * 1024);
  write(folder.path() / "memory" / "memory.limit_in_bytes", "20000\n");
  write(folder.path() / "memory" / "memory.usage_in_bytes", "15000\n");
  CHECK(available_memory(meminfo, "4:cpu,memory:/gone\n", root) == 5000);
  CHECK(available_memory(meminfo, "2:cpu:/gone\n", root) == 80 * 1024);
  write(folder.path() / "memory" / "memory.usage_in_bytes", "25000\n");
  CHECK(available_memory(meminfo, "4:memory:/\n", root) == 0);
  for (const std::string hostile : {"0::/../../../../..", ":", "::", "0::", "x:y", "4:memory", std::string(100000, ':').c_str()})
    CHECK_NOTHROW(available_memory(meminfo, hostile, root));
}

TEST_CASE("decoding alone takes the latents at once that were asked for, or as many fewer as fit") {
  OptionSet options;
  options.apply_recipe(resolve_model("demo", default_search()).recipe.defaults);
  options.set({"prompt", "a boat", "test"}, SourceLevel::flag);
  const ResolvedModel model = resolve_model("demo", default_search());
  PlanInput input = plan_decoder(model.require_files(), {});
  input.settings = make_request(options.values()).settings;
  const auto peak = [&](int latents) {
    PlanInput other = input;
    other.settings.decode_latents = latents;
    return plan_memory(other).peak();
  };
  const MemoryPlan plan = plan_memory(input);
  CHECK(plan.peak() == plan.decode.total());
  CHECK(plan.decode.weights + plan.decode.kv + plan.load.total() + plan.text.total() == 0);  // no transformer, no encoder
  REQUIRE(input.settings.decode_latents == 5);
  REQUIRE(peak(2) < peak(3));
  CHECK(choose_decode_latents(5, true, peak, {peak(5), "free"}, at::kCPU) == 5);
  CHECK(choose_decode_latents(5, false, peak, {peak(5), "free"}, at::kCPU) == 5);
  CHECK(choose_decode_latents(5, true, peak, {peak(3) - 1, "free"}, at::kCPU) == 2);
  const auto message = [&](double room, bool may_lower, const at::Device& device = at::kCPU) {
    try {
      choose_decode_latents(5, may_lower, peak, {room, "free here"}, device);
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::no_memory);
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK_THAT(message(peak(3) - 1, false), ContainsSubstring("decoding 5 latent frames at once") && ContainsSubstring("free here") &&
                                              ContainsSubstring("it fits with --decode-latents 2 ("));
  for (const bool may_lower : {false, true}) CHECK_THAT(message(peak(1) - 1, may_lower), ContainsSubstring("one at once would need"));
  CHECK_THAT(message(1, true, at::kCUDA), ContainsSubstring("take --device cpu"));
}
