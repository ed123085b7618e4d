#include "tools/train/text_stage.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>

#include "base/error.h"
#include "models/demo/clips.h"
#include "models/weights/checkpoint_source.h"
#include "models/weights/safetensors.h"
#include "tools/train/clock.h"
#include "tools/train/dit_stage.h"
#include "tools/train/parameters.h"
#include "tools/train/prompts.h"

namespace longtake::train {
namespace {

// "left to right" and "left to the right" with their first word replaced by the last one, and the reverse.
class WordOrder {
 public:
  explicit WordOrder(const Prompts& prompts)
      : left_(prompts.ids("left")[0]), right_(prompts.ids("right")[0]), to_(prompts.ids("to")[0]), the_(prompts.ids("the")[0]) {}

  std::vector<int64_t> resolve(std::vector<int64_t> ids) const {
    for (size_t i = 0; i + 2 < ids.size(); ++i) {
      if ((ids[i] != left_ && ids[i] != right_) || ids[i + 1] != to_) continue;
      const size_t end = ids[i + 2] == the_ && i + 3 < ids.size() ? i + 3 : i + 2;
      if ((ids[end] == left_ || ids[end] == right_) && ids[end] != ids[i]) ids[i] = ids[end];
    }
    return ids;
  }

 private:
  int64_t left_, right_, to_, the_;
};

// Captions as in training; now and then other wordings of the directions, and captions of two scenes behind one another.
std::string draw_prompt(demo::Random& random) {
  const demo::Scene scene = demo::random_training_scene(random);
  std::string text = training_prompt(scene, random);
  if (random.uniform() < 0.3) {
    static constexpr const char* kMoves[] = {"moves from the left to the right",  "moves from the right to the left",
                                             "slides from left to right",         "slides from right to left",
                                             "moving from the left to the right", "moving from right to left"};
    text = fmt::format("{} {} {} over {}", demo::name(scene.colour), demo::name(scene.shape), kMoves[random.below(6)],
                       demo::name(scene.background));
  }
  return random.uniform() < 0.05 ? "" : text;
}

}  // namespace

void train_text(const TextOptions& options) {
  const auto file = options.folder / "text.safetensors";
  const Prompts prompts(options.folder / "spiece.model");
  const WordOrder order(prompts);
  const Umt5Sizes sizes = demo_text_sizes();
  CheckpointSource teacher_source(Checkpoint::open(file), {}, at::kCPU, at::kFloat);
  const Umt5Encoder teacher(teacher_source, sizes);

  InitSource init([](const std::string&) { return true; }, options.seed);
  Umt5Encoder(init, sizes);
  std::map<std::string, at::Tensor> all = init.parameters();
  all["token_embedding.weight"] = Checkpoint::open(file).tensor("token_embedding.weight").clone();
  Parameters parameters(all, 0.995);

  Clock clock(options.minutes, /*cpu=*/false);
  demo::Random random(options.seed + 6000);
  double sum = 0;
  int count = 0;
  while (clock.share() < 1) {
    std::vector<std::vector<int64_t>> ids, resolved;
    for (int i = 0; i < options.batch; ++i) {
      ids.push_back(prompts.ids(draw_prompt(random)));
      resolved.push_back(order.resolve(ids.back()));
    }
    at::Tensor wanted;
    {
      at::NoGradGuard no_grad;
      wanted = encode_texts(teacher, resolved);
    }
    StepSource source(parameters.tensors(), at::kFloat);
    const at::Tensor loss = (encode_texts(Umt5Encoder(source, sizes), ids) - wanted).square().sum() / wanted.square().sum();
    loss.backward();
    const double norm = parameters.step(clock.rate(options.rate));
    sum += loss.item<double>(), ++count;
    if (parameters.steps() % 100 == 0) {
      log_line(options.folder / "text.jsonl",
               {{"step", static_cast<double>(parameters.steps())}, {"seconds", clock.seconds()}, {"loss", sum / count}, {"gradient", norm}});
      sum = count = 0;
    }
  }
  save_safetensors(file, parameters.averaged());
}

}  // namespace longtake::train
