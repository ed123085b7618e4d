#include "video_io/comparison.h"

#include "base/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace longtake {
namespace {

constexpr double kBusyMachine = 0.1;

using Value = std::optional<double>;

template <size_t Baseline>
const Closeness* raw(const ClipRun& run) {
  return run.raw[Baseline] ? &*run.raw[Baseline] : nullptr;
}
template <size_t Baseline>
const Closeness* encoded(const ClipRun& run) {
  return run.encoded[Baseline] ? &*run.encoded[Baseline] : nullptr;
}

using Getter = const Closeness* (*)(const ClipRun&);

template <Getter Get>
Value psnr(const ClipRun& run) {
  const Closeness* c = Get(run);
  return c ? Value(c->quality.pooled_psnr) : std::nullopt;
}
template <Getter Get>
Value ssim(const ClipRun& run) {
  const Closeness* c = Get(run);
  return c ? Value(c->quality.mean_ssim) : std::nullopt;
}
template <Getter Get>
Value lpips(const ClipRun& run) {
  const Closeness* c = Get(run);
  return c ? c->mean_lpips() : std::nullopt;
}

Value verdict(const std::optional<bool>& right) { return right ? Value(*right ? 1 : 0) : std::nullopt; }

template <std::optional<bool> PromptFollowing::*Field>
Value follows(const ClipRun& run) {
  return run.following ? verdict((*run.following).*Field) : std::nullopt;
}

template <std::vector<SeamJump> SeamReport::*List, double MeanJump::*Part>
Value jump(const ClipRun& run) {
  const auto mean = mean_jump(run.seams.*List);
  return mean ? Value((*mean).*Part) : std::nullopt;
}

nlohmann::ordered_json estimate_json(const Estimate& e) {
  if (e.count == 0) return nullptr;
  nlohmann::ordered_json out{{"mean", e.value}};
  out["interval95"] =
      e.interval ? nlohmann::ordered_json::array({e.interval->low, e.interval->high}) : nlohmann::ordered_json(nullptr);
  out["clips"] = e.count;
  out["prompts"] = e.clusters;
  return out;
}

nlohmann::ordered_json closeness_json(const Closeness& c) {
  nlohmann::ordered_json out{
      {"psnr", c.quality.mean_psnr}, {"psnr_pooled", c.quality.pooled_psnr}, {"ssim", c.quality.mean_ssim}};
  const auto lpips = c.mean_lpips();
  out["lpips"] = lpips ? nlohmann::ordered_json(*lpips) : nlohmann::ordered_json(nullptr);
  out["psnr_by_frame"] = c.quality.psnr;
  out["ssim_by_frame"] = c.quality.ssim;
  if (lpips) out["lpips_by_frame"] = c.lpips;
  return out;
}

nlohmann::ordered_json run_json(const Comparison& comparison, const ClipRun& run) {
  nlohmann::ordered_json out{{"policy", comparison.policies[run.policy].entry.label},
                             {"prompt", comparison.prompts[run.prompt]},
                             {"prompt_index", run.prompt},
                             {"seed", run.seed},
                             {"order", run.order}};
  if (!run.done()) {
    out["error"] = run.error;
    return out;
  }
  out["video"] = run.video;
  out["seconds"] = {{"denoise", run.denoise_seconds},
                    {"vae_encode", run.encode_seconds},
                    {"vae_decode", run.decode_seconds},
                    {"total", run.total_seconds},
                    {"cpu", run.cpu_seconds}};
  out["other_load"] = run.other_load ? nlohmann::ordered_json(*run.other_load) : nlohmann::ordered_json(nullptr);
  out["flops"] = run.flops;
  out["flops_without_reuse"] = run.flops_without_reuse;
  out["tokens"] = {{"recomputed", run.recomputed}, {"all", run.tokens}};
  out["peak_bytes"] = run.peak_bytes;
  for (size_t b = 0; b < kBaselines.size(); ++b) {
    const std::string against = fmt::format("against_{}", kBaselines[b]);
    if (run.raw[b]) out["raw_frames"][against] = closeness_json(*run.raw[b]);
    if (run.encoded[b]) out["encoded_frames"][against] = closeness_json(*run.encoded[b]);
  }
  out["seams"] = seam_json(run.seams);
  out["prompt_following"] = run.following ? run.following_report : nlohmann::ordered_json(nullptr);
  out["recomputed_share_by_step"] = run.share_by_step;
  return out;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

}  // namespace

std::optional<double> Closeness::mean_lpips() const {
  if (lpips.empty()) return std::nullopt;
  return std::accumulate(lpips.begin(), lpips.end(), 0.0) / static_cast<double>(lpips.size());
}

int Comparison::policy_index(std::string_view label) const {
  for (size_t i = 0; i < policies.size(); ++i)
    if (policies[i].entry.plain(label)) return static_cast<int>(i);
  return -1;
}

const std::vector<Measure>& measures() {
  static const std::vector<Measure> all{
      {"denoise_seconds", "denoise, s", [](const ClipRun& r) { return Value(r.denoise_seconds); }},
      {"total_seconds", "total, s", [](const ClipRun& r) { return Value(r.total_seconds); }},
      {"cpu_seconds", "CPU, s", [](const ClipRun& r) { return Value(r.cpu_seconds); }},
      {"flops", "FLOPs", [](const ClipRun& r) { return Value(r.flops); }},
      {"recomputed_share", "recomputed", [](const ClipRun& r) { return Value(r.recomputed_share()); }},
      {"peak_bytes", "peak memory",
       [](const ClipRun& r) { return r.peak_bytes > 0 ? Value(static_cast<double>(r.peak_bytes)) : std::nullopt; }},
      {"other_load", "other programs", [](const ClipRun& r) { return r.other_load; }},
      {"psnr_causal", "PSNR", psnr<raw<0>>},
      {"ssim_causal", "SSIM", ssim<raw<0>>},
      {"lpips_causal", "LPIPS", lpips<raw<0>>},
      {"psnr_none", "PSNR", psnr<raw<1>>},
      {"ssim_none", "SSIM", ssim<raw<1>>},
      {"lpips_none", "LPIPS", lpips<raw<1>>},
      {"encoded_psnr_causal", "PSNR", psnr<encoded<0>>},
      {"encoded_ssim_causal", "SSIM", ssim<encoded<0>>},
      {"encoded_lpips_causal", "LPIPS", lpips<encoded<0>>},
      {"encoded_psnr_none", "PSNR", psnr<encoded<1>>},
      {"encoded_ssim_none", "SSIM", ssim<encoded<1>>},
      {"encoded_lpips_none", "LPIPS", lpips<encoded<1>>},
      {"window_jump_luma", "luma", jump<&SeamReport::windows, &MeanJump::luma>},
      {"window_jump_chroma", "chroma", jump<&SeamReport::windows, &MeanJump::chroma>},
      {"chunk_jump_luma", "luma", jump<&SeamReport::chunks, &MeanJump::luma>},
      {"chunk_jump_chroma", "chroma", jump<&SeamReport::chunks, &MeanJump::chroma>},
      {"largest_jump_luma", "largest",
       [](const ClipRun& r) { return r.seams.largest ? Value(r.seams.largest->luma) : std::nullopt; }},
      {"follows", "colour, shape and motion", follows<&PromptFollowing::all>},
      {"colour_right", "colour", follows<&PromptFollowing::colour>},
      {"shape_right", "shape", follows<&PromptFollowing::shape>},
      {"motion_right", "motion", follows<&PromptFollowing::motion>},
      {"size_right", "size", follows<&PromptFollowing::size>},
  };
  return all;
}

const Measure& measure(std::string_view key) {
  for (const Measure& m : measures())
    if (m.key == key) return m;
  fail(ExitCode::internal, "there is no measure {}", key);
}

Estimate mean_of(const Comparison& comparison, int policy, const Measure& measure) {
  std::vector<int> prompts;
  std::vector<double> values;
  for (const ClipRun& run : comparison.runs) {
    if (run.policy != policy || !run.done()) continue;
    if (const Value value = measure.value(run)) prompts.push_back(run.prompt), values.push_back(*value);
  }
  return bootstrap_mean(prompts, values);
}

Estimate speedup_of(const Comparison& comparison, int policy, int baseline_policy, Timing timing) {
  const auto seconds = [timing](const ClipRun& run) {
    return timing == Timing::denoise ? run.denoise_seconds : run.total_seconds;
  };
  std::vector<int> prompts;
  std::vector<double> baseline, own;
  for (const ClipRun& run : comparison.runs) {
    if (run.policy != policy || !run.done()) continue;
    for (const ClipRun& other : comparison.runs)
      if (other.policy == baseline_policy && other.done() && other.prompt == run.prompt && other.seed == run.seed)
        prompts.push_back(run.prompt), baseline.push_back(seconds(other)), own.push_back(seconds(run));
  }
  return bootstrap_ratio(prompts, baseline, own);
}

std::vector<double> mean_curve(const Comparison& comparison, int policy,
                               const std::function<const std::vector<double>*(const ClipRun&)>& values) {
  std::vector<double> sum;
  double clips = 0;
  for (const ClipRun& run : comparison.runs) {
    if (run.policy != policy || !run.done()) continue;
    const std::vector<double>* curve = values(run);
    if (!curve || curve->empty() || (clips > 0 && curve->size() != sum.size())) continue;
    sum.resize(curve->size());
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += (*curve)[i];
    ++clips;
  }
  for (double& value : sum) value /= clips;
  return sum;
}

nlohmann::ordered_json comparison_json(const Comparison& c) {
  nlohmann::ordered_json out{
      {"program", "longtake"}, {"version", c.version}, {"date", c.date}, {"command", c.command}, {"model", c.model}};
  out["machine"] = {
      {"cpu", c.machine.cpu},
      {"threads", c.machine.threads},
      {"memory_bytes", c.machine.memory},
      {"gpu", c.machine.gpu.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(c.machine.gpu)},
      {"system", c.machine.system},
      {"device", c.device},
      {"dtype", c.dtype}};
  out["options"] = c.options;
  out["prompts"] = c.prompts;
  out["seeds"] = c.seeds;
  out["warmup"] = c.warmup;
  out["repeatable"] = c.repeatable ? nlohmann::ordered_json(*c.repeatable) : nlohmann::ordered_json(nullptr);
  out["lpips"] = c.lpips.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(c.lpips);
  out["missing_baselines"] = c.missing_baselines;
  out["peak_bytes_means"] = c.memory_meaning;
  out["load_seconds"] = c.load_seconds;
  out["runs_planned"] = c.planned_runs;
  out["runs_done"] = std::count_if(c.runs.begin(), c.runs.end(), [](const ClipRun& run) { return run.done(); });
  out["runs_failed"] = std::count_if(c.runs.begin(), c.runs.end(), [](const ClipRun& run) { return !run.done(); });
  out["caveats"] = caveats(c);
  out["policies"] = nlohmann::ordered_json::array();
  for (size_t i = 0; i < c.policies.size(); ++i) {
    const ComparedPolicy& policy = c.policies[i];
    const int index = static_cast<int>(i);
    nlohmann::ordered_json entry{{"label", policy.entry.label}, {"policy", policy.entry.policy}};
    entry["options"] = nlohmann::ordered_json::object();
    for (const OptionAssignment& option : policy.entry.options) entry["options"][option.key] = option.value;
    entry["added_as_baseline"] = policy.added;
    entry["same_noise"] = policy.same_noise;
    for (const char* baseline : kBaselines)
      if (const int b = c.policy_index(baseline); b >= 0 && b != index) {
        entry["speedup"][fmt::format("denoise_against_{}", baseline)] =
            estimate_json(speedup_of(c, index, b, Timing::denoise));
        entry["speedup"][fmt::format("total_against_{}", baseline)] =
            estimate_json(speedup_of(c, index, b, Timing::total));
      }
    for (const Measure& m : measures()) entry["means"][m.key] = estimate_json(mean_of(c, index, m));
    out["policies"].push_back(std::move(entry));
  }
  out["runs"] = nlohmann::ordered_json::array();
  for (const ClipRun& run : c.runs) out["runs"].push_back(run_json(c, run));
  return out;
}

std::string comparison_csv(const Comparison& c) {
  std::string out = "policy,prompt_index,prompt,seed,order,error,video";
  for (const Measure& m : measures()) out += "," + m.key;
  out += "\r\n";
  for (const ClipRun& run : c.runs) {
    out +=
        fmt::format("{},{},{},{},{},{},{}", csv_field(c.policies[run.policy].entry.label), run.prompt,
                    csv_field(c.prompts[run.prompt]), run.seed, run.order, csv_field(run.error), csv_field(run.video));
    for (const Measure& m : measures()) {
      const Value value = run.done() ? m.value(run) : std::nullopt;
      out += value ? fmt::format(",{}", *value) : ",";
    }
    out += "\r\n";
  }
  return out;
}

double other_load_of(const Comparison& c) {
  double sum = 0, runs = 0;
  for (const ClipRun& run : c.runs)
    if (run.done() && run.other_load) sum += *run.other_load, ++runs;
  return runs > 0 ? sum / runs : 0;
}

bool busy_machine(const Comparison& comparison) { return other_load_of(comparison) > kBusyMachine; }

std::vector<std::string> caveats(const Comparison& c) {
  std::vector<std::string> out;
  const auto failed = std::count_if(c.runs.begin(), c.runs.end(), [](const ClipRun& run) { return !run.done(); });
  if (static_cast<int>(c.runs.size()) < c.planned_runs)
    out.push_back(fmt::format("The comparison is not finished: {} of {} runs were made when this page was written.",
                              c.runs.size(), c.planned_runs));
  if (failed > 0)
    out.push_back(
        fmt::format("{} of {} runs failed and are in no number; they are listed below.", failed, c.planned_runs));
  const size_t clips = c.prompts.size() * c.seeds.size();
  out.push_back(fmt::format(
      "Every policy is judged on {} clip{}: {} prompt{} with {} seed{} each.{}", clips, clips == 1 ? "" : "s",
      c.prompts.size(), c.prompts.size() == 1 ? "" : "s", c.seeds.size(), c.seeds.size() == 1 ? "" : "s",
      c.prompts.size() < 10
          ? " That is few: the intervals are rough, on the short side, and say nothing about other kinds of prompts."
          : ""));
  if (!c.missing_baselines.empty()) out.push_back(c.missing_baselines);
  out.push_back(
      "Closeness to a baseline is not quality. A policy may differ from its baseline and look as good, and a baseline "
      "may itself fail its prompt; "
      "look at the pictures and at prompt following.");
  if (c.policy_index("none") >= 0 && c.policy_index("causal") >= 0)
    out.push_back(
        std::string(c.magi ? "The two baselines are different ways to run the model: none does all that the model does by itself, "
                             "causal leaves out the passes for clean keys and the nearly clean copies, as policies do."
                           : "The two baselines are different models of attention: none lets every chunk see the whole window, causal "
                             "only what came before.") +
        " Much of a speedup against none is causal's, not the cache's, and a distance from none contains causal's own distance from none "
        "(its row in the table).");
  if (busy_machine(c))
    out.push_back(
        fmt::format("The machine was busy: other programs had {:.0f} % of its CPU time during the runs. Seconds and "
                    "speedups are not to be trusted; FLOPs and closeness are not touched by it.",
                    100 * other_load_of(c)));
  out.push_back(
      "Seconds are wall-clock. Total means denoising, VAE encoding of overlaps and VAE decoding; loading the model, "
      "text encoding, writing "
      "files and measuring are in no number.");
  if (c.warmup.empty())
    out.push_back("There was no warm-up run: the first run of each policy pays for first-time work.");
  out.push_back(
      "FLOPs are 2 x multiply-adds of the transformer blocks for all recomputed tokens of all guidance branches. "
      "Embedding, head, solver, text encoder and VAE are not in them.");
  out.push_back(fmt::format("Peak memory is the {} during a run{}.", c.memory_meaning,
                            c.machine.gpu.empty()
                                ? "; it includes the program, the model and the frames that the comparison keeps, so "
                                  "only differences between policies mean something"
                                : ""));
  for (const ComparedPolicy& policy : c.policies)
    if (!policy.same_noise)
      out.push_back(
          fmt::format("{} cuts the video into other windows than the baselines and so does not start from the same "
                      "noise: its closeness measures that as well.",
                      policy.entry.label));
  if (c.repeatable && !*c.repeatable)
    out.push_back(
        "The warm-up run and the measured run of the same policy gave different frames, so this set-up does not repeat "
        "bit for bit; small distances may be that.");
  if (c.windows == 1 && !c.magi)
    out.push_back("The clips have one window, so nothing here is about window borders or drift over long videos.");
  if (c.lpips.empty()) out.push_back("LPIPS was not measured: no weights were given (--lpips FILE).");
  return out;
}

}  // namespace longtake
