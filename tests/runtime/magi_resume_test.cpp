// MAGI-1 runs that end between two rows and go on from their folder, to the same bits, with either VAE; and folders of other runs.
#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <c10/core/InferenceMode.h>

#include "base/error.h"
#include "runtime/magi_engine.h"
#include "runtime/magi_recipe.h"
#include "runtime/run_folder.h"
#include "tests/catch.h"
#include "tests/models/magi_folder.h"
#include "tests/refused.h"
#include "tests/video_io/video_helpers.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kSeed = 3;

enum class Vae { own, wan };

// Chunks of two latent frames, 32 x 48 pixels, 8 steps of which 4 chunks are in flight.
Recipe tiny_recipe(bool distilled, Vae vae) {
  Recipe r = *magi_recipe_of_folder(test::MagiFolder(distilled).path());
  Architecture& a = r.architecture;
  if (vae == Vae::own) {
    a.vae_dim = 256, a.vae_depth = 1, a.vae_heads = 4;
    return r;
  }
  a.latent_channels = 16, a.vae_stages = {4, 8, 16, 16}, a.vae_blocks = 1, a.umt5 = true;
  for (FileLayout& layout : r.layouts) layout.special_tokens.clear();
  r.defaults.push_back({"video.frames", "13", "test"});
  r.defaults.push_back({"sampling.special_tokens", "none", "test"});
  return r;
}

RunRecord some_record() {
  RunRecord record;
  record.version = "1";
  for (const OptionInfo& info : option_schema()) record.options[info.key] = option_text(GenerateOptions(), info);
  record.options["out"] = "out.mp4";
  record.options["seed"] = "5";
  return record;
}

struct Output {
  at::Tensor frames, latents;
  std::vector<std::string> notes;
  std::vector<int> chunks;  // finished while it ran
  RunStats stats;
  int rows = 0;             // that were computed
};

class World {
 public:
  World(bool distilled, Vae vae, const std::vector<std::string>& set = {})
      : threads_(at::get_num_threads()), recipe_(tiny_recipe(distilled, vae)),
        engine_({recipe_, {}, "no files"}, {at::kCPU, at::kFloat}, magi::QuantisedAs::working_dtype, kSeed) {
    at::set_num_threads(1);  // nothing here is large enough for more
    OptionSet options;
    options.apply_recipe(recipe_.defaults);
    options.set("prompt=a red circle over grass"), options.set("seed=5");
    for (const std::string& assignment : set) options.set(assignment);
    request = make_magi_request(recipe_, options.values());
    if (const int n = request.given_frames; n > 0) request.given = at::full({3, n, 32, 48}, 0.25, at::kFloat);
  }
  ~World() { at::set_num_threads(threads_); }

  // Stops after `stop_after` rows where that is given.
  Output run(RunFolder* folder, std::optional<int> stop_after = std::nullopt) {
    const c10::InferenceMode inference;
    engine_.encode(request.prompts);
    Output out;
    std::vector<at::Tensor> frames;
    GenerateHooks hooks;
    hooks.on_latents = [&](int, const at::Tensor& latents) { out.latents = latents.clone(); };
    hooks.on_frames = [&](const at::Tensor& f) { frames.push_back(f.clone()); };
    hooks.on_chunk = [&](int, int chunk, const at::Tensor&) { out.chunks.push_back(chunk); };
    hooks.on_note = [&](const std::string& note) { out.notes.push_back(note); };
    hooks.denoise.on_row = [&](int, int) { ++out.rows; };
    hooks.should_stop = [&] { return stop_after && out.rows >= *stop_after; };
    try {
      out.stats = engine_.run(request, hooks, folder);
    } catch (const Error& error) {
      if (!stop_after) throw;
      CHECK(error.code() == ExitCode::interrupted);
    }
    if (!frames.empty()) out.frames = at::cat(frames, 1);
    return out;
  }

  // What decode makes of a folder.
  Output decode(const RunFolder& folder) {
    const c10::InferenceMode inference;
    Output out;
    std::vector<at::Tensor> frames;
    GenerateHooks hooks;
    hooks.on_latents = [&](int, const at::Tensor& latents) { out.latents = latents.clone(); };
    hooks.on_frames = [&](const at::Tensor& f) { frames.push_back(f.clone()); };
    engine_.decode(request, folder, hooks);
    out.frames = at::cat(frames, 1);
    return out;
  }

  MagiRequest request;

 private:
  int threads_;
  Recipe recipe_;
  MagiEngine engine_;
};

void check_equal(const Output& a, const Output& b) {
  CHECK(at::equal(a.frames, b.frames));
  CHECK(at::equal(a.latents, b.latents));
  const WorkCount one = a.stats.total(), other = b.stats.total();
  CHECK(one.recomputed == other.recomputed);
  CHECK(one.reused == other.reused);
  CHECK(one.flops == other.flops);
  CHECK(a.stats.mean_kv_bytes() == b.stats.mean_kv_bytes());
}

// Stops behind every so-manieth row, resumes, and expects the bits of the uninterrupted run.
void check_rows(World& world, int every) {
  const Output whole = world.run(nullptr);
  REQUIRE(whole.frames.size(1) == world.request.frames());
  REQUIRE(whole.rows == world.request.layout().rows());
  for (int stop = 1; stop < whole.rows; stop += every) {
    INFO("stopped after row " << stop << " of " << whole.rows);
    const TemporaryFolder folder;
    Output first;
    {
      const auto run = RunFolder::create(folder / "x.run", some_record());
      first = world.run(run.get(), stop);
    }
    // What is finished has been decoded.
    if (first.frames.defined()) CHECK(at::equal(first.frames, whole.frames.narrow(1, 0, first.frames.size(1))));
    CHECK((first.chunks.empty() || first.frames.defined()));
    const auto run = RunFolder::open(folder / "x.run", RunFolder::Access::write);
    const Output rest = world.run(run.get());
    check_equal(whole, rest);
    CHECK(first.rows == stop);
    if (world.request.run.checkpoint_bytes > 0) CHECK(first.rows + rest.rows == whole.rows);  // nothing is computed twice
    // Once it is finished, the folder gives all of it without a row, and to decode alone.
    const Output again = world.run(run.get());
    CHECK(again.rows == 0);
    check_equal(whole, again);
    const Output decoded = world.decode(*run);
    CHECK(at::equal(decoded.frames, whole.frames));
    CHECK(at::equal(decoded.latents, whole.latents));
  }
}

std::vector<std::string> policy(const std::string& text) { return {"policy=" + text}; }

}  // namespace

TEST_CASE("a MAGI-1 run stopped behind any row goes on to the same bits") {
  SECTION("distilled, none") {
    World world(true, Vae::own);
    world.request.run.decode_ahead = true;
    check_rows(world, 2);
  }
  SECTION("base, none") {
    World world(false, Vae::own);
    check_rows(world, 5);
  }
  SECTION("base, flowcache") {
    World world(false, Vae::own, policy("flowcache:warmup=0,threshold=0.05"));
    check_rows(world, 5);
  }
  SECTION("causal") {
    World world(true, Vae::wan, policy("causal"));
    check_rows(world, 4);
  }
  SECTION("teacache") {
    World world(true, Vae::own, policy("teacache:ret=1,threshold=0.02"));
    check_rows(world, 4);
  }
  SECTION("motioncache") {
    World world(true, Vae::wan, policy("motioncache:warmup=0,chunk_steps=2,threshold=0.02,token_threshold=0.03,floor=0.2"));
    world.request.run.decode_ahead = true;
    check_rows(world, 2);
  }
  SECTION("from the start each time") {
    World world(true, Vae::wan);
    world.request.run.checkpoint_bytes = 0;
    check_rows(world, 6);
  }
}

TEST_CASE("MAGI-1 runs that are given frames go on to the same bits") {
  const Vae vae = GENERATE(Vae::own, Vae::wan);
  const bool wan = vae == Vae::wan;
  SECTION("a picture") {
    World world(true, vae, {"conditioning.image=x.png"});
    world.request.run.decode_ahead = true;
    check_rows(world, 5);
  }
  SECTION("a picture that is a chunk of its own") {
    World world(true, vae, {"conditioning.image=x.png", "sampling.chunk=1", wan ? "video.frames=13" : "video.frames=16"});
    CHECK(world.request.layout().windows[0].given == 1);
    check_rows(world, 7);
  }
  // 3 latent frames: one and a half chunks.
  const std::vector<std::string> video = {"conditioning.video=x.mp4", wan ? "conditioning.context=9" : "conditioning.context=12", "conditioning.add=0.8"};
  SECTION("the end of a video") {
    World world(true, vae, video);
    CHECK(world.request.frames() == 20);
    check_rows(world, 5);
  }
  SECTION("the same in the reference's way, where given frames move") {
    std::vector<std::string> set = video;
    set.insert(set.end(), {"parity=motioncache-ref", "policy=motioncache:warmup=0,chunk_steps=2,threshold=0.02,token_threshold=0.03"});
    World world(true, vae, set);
    check_rows(world, 7);
  }
}

TEST_CASE("what a MAGI-1 run keeps") {
  World world(true, Vae::own, {"video.frames=32"});
  const TemporaryFolder folder;
  const auto run = RunFolder::create(folder / "x.run", some_record());
  const int rows = world.request.layout().rows();
  const Output first = world.run(run.get(), rows - 2);
  CHECK(first.chunks == std::vector<int>{0, 1, 2});
  CHECK(run->chunks(0) == 3);
  CHECK_FALSE(run->holds_window(0));
  CHECK(fs::exists(folder / fmt::format("x.run/state_000_{:04}.done", rows - 3)));
  CHECK(world.decode(*run).frames.size(1) == 24);
  // The state is too large for the budget: said once.
  World small(true, Vae::own);
  small.request.run.checkpoint_bytes = 1000;
  const auto other = RunFolder::create(folder / "y.run", some_record());
  const Output told = small.run(other.get());
  REQUIRE(told.notes.size() == 1);
  CHECK_THAT(told.notes[0], ContainsSubstring("--checkpoint-budget"));
}

TEST_CASE("MAGI-1 folders of another run are refused") {
  World world(true, Vae::own, {"video.frames=32"});
  const TemporaryFolder folder;
  const auto run = RunFolder::create(folder / "x.run", some_record());
  world.run(run.get(), world.request.layout().rows() - 2);
  const auto told = [&](const std::vector<std::string>& set, Vae vae = Vae::own) {
    World other(true, vae, set);
    return refused([&] { run->attach(other.request.layout()); });
  };
  CHECK_THAT(told({}), ContainsSubstring("window 0 holds chunk 2"));                                   // of two chunks
  CHECK_THAT(told({"video.frames=32", "sampling.steps=4"}), ContainsSubstring("row"));                 // its rows are fewer
  CHECK_THAT(told({"video.frames=32", "sampling.chunk=1"}), ContainsSubstring("'latents' should be")); // its chunks are shorter
  CHECK_THAT(told({"video.frames=32", "video.size=48x48"}), ContainsSubstring("'latents' should be"));
  CHECK_THAT(told({"conditioning.video=x.mp4", "conditioning.context=8", "conditioning.add=0.8"}), ContainsSubstring("holds chunk 0 where 1 is expected"));
  // Files that were edited or lost.
  fs::remove(folder / "x.run/chunk_000_001.done");
  const auto reopened = [&] {
    fs::remove(folder / "x.run/lock");
    return RunFolder::open(folder / "x.run", RunFolder::Access::read);
  };
  CHECK_THAT(refused([&] { reopened()->attach(world.request.layout()); }), ContainsSubstring("chunk 2 where 1 is expected"));
}
