// longtake_train: draws the demo world's clips and trains the demo model on them. See docs/demo-model.md.
#include <ATen/Parallel.h>
#include <malloc.h>

#include <cstdio>
#include <fstream>
#include <map>

#include "base/error.h"
#include "models/demo/clips.h"
#include "models/weights/safetensors.h"
#include "runtime/device.h"
#include "tools/train/dit_stage.h"
#include "tools/train/export.h"
#include "tools/train/magi_export.h"
#include "tools/train/magi_stage.h"
#include "tools/train/plot.h"
#include "tools/train/sample.h"
#include "tools/train/vae_stage.h"

namespace longtake::train {
namespace {

constexpr const char* kUsage =
    "usage: longtake_train STAGE --out FOLDER [--NAME VALUE]...\n"
    "  captions   captions.txt: every caption of the world in every style\n"
    "  clips      clips.safetensors: a few clips to look at (--count 12)\n"
    "  vae        the VAE's decoder (--minutes 12 --batch 4 --crop 64 --frames 9 --rate 2e-3)\n"
    "  dit        the transformer and the text encoder, after vae (--minutes 25 --dim 128 --layers 4 --batch 12 --rate 2e-3 --pool 1000\n"
    "             --one 0.5 --two 0.3 --five 0.2: shares of steps on windows of so many chunks; --bf16 0|1)\n"
    "  export     a model folder in the Diffusers layout (--model FOLDER --flow-shift 5)\n"
    "  magi       a MAGI-1 transformer on a demo model's latents and texts (--demo FOLDER --minutes 7 --dim 256 --layers 4 --batch 12\n"
    "             --rate 1.5e-3 --pool 500 --one 0.3 --two 0.3 --five 0.4: shares of steps on one chunk, two, and three to five; --bf16 0|1;\n"
    "             --distilled 1: from the trained one a model with guidance built in, --guidance 4 --prev-guidance 1.5)\n"
    "  export-magi  its model folder (--model FOLDER --demo FOLDER --distilled 0|1 --steps 32 --recipe FILE; --shared PATH: the way from the\n"
    "             model folder to the parts of the demo model, which are copied otherwise)\n"
    "  plot       loss curves as SVG (--picture FILE)\n"
    "  sample     prompts of held-out scenes: scores where OpenCV is built in, PSNR and SSIM against the first policy (--model FOLDER\n"
    "             --count 12 --policies \"drawn;vae;causal;motioncache:slow\" --steps 50 --shift 5 --guidance 6 --ar-step 5 --frames 97 --keep 0|1;\n"
    "             of MAGI-1: --set \"sampling.steps=16;sampling.guidance=3\")\n"
    "all: --seed 1, --device cpu|cuda, --threads N, --cpu-time 0|1 (minutes are CPU time)\n";

// "a;b" -> a, b.
std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> out;
  for (size_t begin = 0, end; begin < list.size(); begin = end + 1) {
    end = std::min(list.find(';', begin), list.size());
    out.push_back(list.substr(begin, end - begin));
  }
  return out;
}

// "--name value" pairs with defaults; an unknown name is an error.
class Arguments {
 public:
  Arguments(int argc, char** argv) {
    for (int i = 2; i + 1 < argc; i += 2) {
      const std::string name = argv[i];
      if (!name.starts_with("--")) fail_usage("expected --NAME VALUE, found '{}'\n{}", name, kUsage);
      given_[name.substr(2)] = argv[i + 1];
    }
    if (argc < 2 || argc % 2 != 0) fail_usage("{}", kUsage);
  }
  std::string text(const std::string& name, const std::string& fallback) {
    const auto it = given_.find(name);
    if (it == given_.end()) return fallback;
    const std::string value = it->second;
    given_.erase(it);
    return value;
  }
  double number(const std::string& name, double fallback) {
    const std::string value = text(name, fmt::format("{}", fallback));
    try {
      return std::stod(value);
    } catch (const std::exception&) {
      fail_usage("--{} must be a number, found '{}'", name, value);
    }
  }
  void finish() const {
    if (!given_.empty()) fail_usage("--{} is unknown here\n{}", given_.begin()->first, kUsage);
  }

 private:
  std::map<std::string, std::string> given_;
};

void write_captions(const std::filesystem::path& folder) {
  std::ofstream out(folder / "captions.txt");
  for (const demo::Scene& scene : demo::all_scenes())
    for (int style = 0; style < demo::kCaptionStyles; ++style) out << demo::caption(scene, style) << '\n';
  if (!out.flush()) fail_file("{} cannot be written", (folder / "captions.txt").string());
}

void write_clips(const std::filesystem::path& folder, int count, uint64_t seed) {
  demo::Random random(seed);
  std::map<std::string, at::Tensor> clips;
  for (int i = 0; i < count; ++i) {
    const demo::Scene scene = demo::random_training_scene(random);
    clips[demo::caption(scene)] = demo::Clip(scene, demo::Start::beginning, random.next()).frames(0, 97);
  }
  save_safetensors(folder / "clips.safetensors", clips);
}

int run(int argc, char** argv) {
  // Clips come and go by the thousand: their pages must stay with the process.
  mallopt(M_MMAP_THRESHOLD, 32 << 20), mallopt(M_TRIM_THRESHOLD, 1 << 30);
  Arguments arguments(argc, argv);
  const std::string stage = argv[1];
  const std::filesystem::path folder = arguments.text("out", "");
  if (folder.empty()) fail_usage("--out FOLDER is missing\n{}", kUsage);
  std::filesystem::create_directories(folder);
  const auto seed = static_cast<uint64_t>(arguments.number("seed", 1));
  const at::Device device = open_device(arguments.text("device", "cpu"));
  const bool cpu_time = arguments.number("cpu-time", 0) != 0;
  if (const double threads = arguments.number("threads", 0); threads > 0) at::set_num_threads(static_cast<int>(threads));
  // On a GPU all cores draw clips, each for itself; on the CPU they are needed for the training.
  const int draw_threads = device.is_cuda() ? at::get_num_threads() : 1;
  if (device.is_cuda()) at::set_num_threads(1);
  if (stage == "captions") {
    arguments.finish();
    write_captions(folder);
  } else if (stage == "clips") {
    const int count = static_cast<int>(arguments.number("count", 12));
    arguments.finish();
    write_clips(folder, count, seed);
  } else if (stage == "vae") {
    VaeOptions options{.folder = folder, .cpu_time = cpu_time, .seed = seed, .device = device, .draw_threads = draw_threads};
    options.minutes = arguments.number("minutes", options.minutes);
    options.batch = static_cast<int>(arguments.number("batch", options.batch));
    options.frames = static_cast<int>(arguments.number("frames", options.frames));
    options.crop = static_cast<int>(arguments.number("crop", options.crop));
    options.rate = arguments.number("rate", options.rate);
    arguments.finish();
    train_vae(options);
  } else if (stage == "dit") {
    DitOptions options{.folder = folder, .cpu_time = cpu_time, .seed = seed, .device = device, .draw_threads = draw_threads};
    options.minutes = arguments.number("minutes", options.minutes);
    options.dim = static_cast<int64_t>(arguments.number("dim", static_cast<double>(options.dim)));
    options.layers = static_cast<int64_t>(arguments.number("layers", static_cast<double>(options.layers)));
    options.batch_chunks = static_cast<int>(arguments.number("batch", options.batch_chunks));
    options.pool = static_cast<int>(arguments.number("pool", options.pool));
    options.rate = arguments.number("rate", options.rate);
    options.average = arguments.number("average", options.average);
    options.bfloat16 = arguments.number("bf16", 0) != 0;
    options.mix = {arguments.number("one", options.mix[0]), arguments.number("two", options.mix[1]), arguments.number("five", options.mix[2])};
    arguments.finish();
    train_dit(options);
  } else if (stage == "export") {
    ExportOptions options{.folder = folder, .model = arguments.text("model", "")};
    options.flow_shift = arguments.number("flow-shift", options.flow_shift);
    arguments.finish();
    if (options.model.empty()) fail_usage("--model FOLDER is missing\n{}", kUsage);
    export_model(options);
  } else if (stage == "magi") {
    MagiOptions options{.folder = folder, .demo = arguments.text("demo", ""), .cpu_time = cpu_time, .seed = seed, .device = device,
                        .draw_threads = draw_threads};
    options.distilled = arguments.number("distilled", 0) != 0;
    options.minutes = arguments.number("minutes", options.minutes);
    options.dim = static_cast<int64_t>(arguments.number("dim", static_cast<double>(options.dim)));
    options.layers = static_cast<int64_t>(arguments.number("layers", static_cast<double>(options.layers)));
    options.batch_chunks = static_cast<int>(arguments.number("batch", options.batch_chunks));
    options.pool = static_cast<int>(arguments.number("pool", options.pool));
    options.rate = arguments.number("rate", options.rate);
    options.average = arguments.number("average", options.average);
    options.drop_text = arguments.number("drop-text", options.drop_text);
    options.guidance = arguments.number("guidance", options.guidance);
    options.prev_guidance = arguments.number("prev-guidance", options.prev_guidance);
    options.bfloat16 = arguments.number("bf16", 0) != 0;
    options.mix = {arguments.number("one", options.mix[0]), arguments.number("two", options.mix[1]), arguments.number("five", options.mix[2])};
    arguments.finish();
    if (options.demo.empty()) fail_usage("--demo FOLDER is missing\n{}", kUsage);
    train_magi(options);
  } else if (stage == "export-magi") {
    MagiExportOptions options{.folder = folder, .demo = arguments.text("demo", ""), .model = arguments.text("model", ""),
                              .shared = arguments.text("shared", ""), .recipe = arguments.text("recipe", "")};
    options.distilled = arguments.number("distilled", 0) != 0;
    options.steps = static_cast<int>(arguments.number("steps", options.steps));
    arguments.finish();
    if (options.model.empty() || (options.demo.empty() && options.shared.empty())) fail_usage("--model or --demo FOLDER is missing\n{}", kUsage);
    export_magi(options);
  } else if (stage == "plot") {
    const std::filesystem::path picture = arguments.text("picture", "loss.svg");
    arguments.finish();
    plot_losses(folder, picture);
  } else if (stage == "sample") {
    SampleOptions options{.folder = folder, .model = arguments.text("model", ""), .seed = seed, .device = device};
    options.count = static_cast<int>(arguments.number("count", options.count));
    options.steps = static_cast<int>(arguments.number("steps", options.steps));
    options.ar_step = static_cast<int>(arguments.number("ar-step", options.ar_step));
    options.frames = static_cast<int>(arguments.number("frames", options.frames));
    options.shift = arguments.number("shift", options.shift);
    options.guidance = arguments.number("guidance", options.guidance);
    options.keep = arguments.number("keep", 0) != 0;
    options.policies = split(arguments.text("policies", "causal"));
    options.set = split(arguments.text("set", ""));
    arguments.finish();
    if (options.model.empty()) fail_usage("--model FOLDER is missing\n{}", kUsage);
    sample(options);
  } else {
    fail_usage("'{}' is no stage\n{}", stage, kUsage);
  }
  return 0;
}

}  // namespace
}  // namespace longtake::train

int main(int argc, char** argv) {
  try {
    return longtake::train::run(argc, argv);
  } catch (const longtake::Error& error) {
    std::fprintf(stderr, "longtake_train: %s\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "longtake_train: %s\n", error.what());
    return static_cast<int>(longtake::ExitCode::internal);
  }
}
