#include "video_io/comparison_page.h"

#include "runtime/progress.h"
#include "video_io/page_parts.h"
#include "video_io/plots.h"
#include "video_io/png.h"
#include "video_io/tiles.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

namespace longtake {
namespace {

std::string policy_label(const Comparison& c, int policy) { return c.policies[policy].entry.label; }

// ---- summary

// How many times less a policy costs than causal: in denoising seconds, or in FLOPs where the seconds cannot be
// trusted.
double gain_over_causal(const Comparison& c, int policy, int causal) {
  if (!busy_machine(c)) return speedup_of(c, policy, causal, Timing::denoise).value;
  return mean_of(c, causal, measure("flops")).value / mean_of(c, policy, measure("flops")).value;
}

std::string policy_sentence(const Comparison& c, int policy, int causal, const std::string& what) {
  const std::string gain = format_value(gain_over_causal(c, policy, causal), Unit::times);
  std::string out = fmt::format(
      "<strong>{}</strong> {}: {}, {} PSNR and {} SSIM against causal", html_text(policy_label(c, policy)), what,
      busy_machine(c) ? "causal takes " + gain + " its FLOPs" : gain + " the denoising speed of causal",
      format_estimate(mean_of(c, policy, measure("psnr_causal")), Unit::decibel),
      format_estimate(mean_of(c, policy, measure("ssim_causal")), Unit::similarity));
  const int none = c.policy_index("none");
  if (none >= 0 && !busy_machine(c))
    if (const Estimate speed = speedup_of(c, policy, none, Timing::denoise); speed.count > 0)
      out += fmt::format(" ({} the speed of none)", format_estimate(speed, Unit::times));
  return out + ".";
}

// The policies that go furthest in each direction, a sentence each.
std::string lead(const Comparison& c) {
  const int causal = c.policy_index("causal");
  if (causal < 0 || mean_of(c, causal, measure("flops")).count == 0) return "";
  int cheapest = -1, closest = -1;
  double most_gain = 0, most_psnr = 0;
  for (int i = 0; i < static_cast<int>(c.policies.size()); ++i) {
    const Estimate psnr = mean_of(c, i, measure("psnr_causal"));
    if (i == causal || c.policies[i].entry.plain("none") || psnr.count == 0) continue;
    const double gain = gain_over_causal(c, i, causal);
    if (cheapest < 0 || gain > most_gain) cheapest = i, most_gain = gain;
    if (closest < 0 || psnr.value > most_psnr) closest = i, most_psnr = psnr.value;
  }
  if (cheapest < 0) return "";
  const bool busy = busy_machine(c);
  std::string out = "<p class=\"lead\">";
  if (most_gain <= 1)
    out += fmt::format("No policy {} causal in this comparison. ",
                       busy ? "takes fewer FLOPs than" : "denoised faster than");
  else
    out += policy_sentence(c, cheapest, causal,
                           fmt::format("{}{}", busy ? "takes the fewest FLOPs" : "is the fastest",
                                       cheapest == closest ? " and stays closest to causal" : "")) +
           " ";
  if (closest != cheapest || most_gain <= 1) out += policy_sentence(c, closest, causal, "stays closest to causal");
  return out + "</p>\n" +
         (busy ? "<p><strong>Seconds and speedups below were taken on a busy machine and are not to be "
                 "trusted</strong> (see what may mislead).</p>\n"
               : "");
}

std::string cost_table(const Comparison& c) {
  Table table;
  const bool on_cpu = c.machine.gpu.empty();
  table.caption =
      "Means over clips; in small type 95 % intervals. Speedups are seconds of the baseline divided by seconds of the "
      "policy, over the same clips.";
  table.group("", 1), table.group("denoising, speedup against", 2), table.group("total, speedup against", 2),
      table.group("seconds a clip", on_cpu ? 3 : 2), table.group("work", 3);
  table.columns = {"policy", "none", "causal", "none", "causal", "denoise", "total"};
  if (on_cpu) table.columns.push_back("CPU");
  table.columns.insert(table.columns.end(), {"FLOPs", "recomputed", "peak memory"});
  for (int i = 0; i < static_cast<int>(c.policies.size()); ++i) {
    auto& row = table.row(policy_cell(c, i));
    for (const Timing timing : {Timing::denoise, Timing::total})
      for (const char* baseline : {"none", "causal"}) {
        const int b = c.policy_index(baseline);
        row.push_back(b < 0 || b == i ? no_value() : estimate_cell(speedup_of(c, i, b, timing), Unit::times));
      }
    const auto add = [&](const char* key, Unit unit) {
      row.push_back(estimate_cell(mean_of(c, i, measure(key)), unit));
    };
    add("denoise_seconds", Unit::seconds), add("total_seconds", Unit::seconds);
    if (on_cpu) add("cpu_seconds", Unit::seconds);
    add("flops", Unit::flops), add("recomputed_share", Unit::percent), add("peak_bytes", Unit::bytes);
  }
  return table.html();
}

// Closeness to both baselines; `prefix` is "" for raw frames and "encoded_" for the files.
std::string closeness_table(const Comparison& c, const std::string& prefix, const std::string& what,
                            const std::string& caption) {
  Table table;
  table.caption = caption;
  const bool lpips = !c.lpips.empty();
  table.columns = {"policy"};
  table.group("", 1);
  for (const char* baseline : kBaselines) {
    table.group(fmt::format("{} against {}", what, baseline), lpips ? 4 : 3);
    for (const char* name : {"PSNR", "SSIM"}) table.columns.push_back(name);
    if (lpips) table.columns.push_back("LPIPS");
    table.columns.push_back("clips");
  }
  for (int i = 0; i < static_cast<int>(c.policies.size()); ++i) {
    auto& row = table.row(policy_cell(c, i));
    for (const char* baseline : kBaselines) {
      const auto add = [&](const char* name, Unit unit) {
        row.push_back(estimate_cell(mean_of(c, i, measure(fmt::format("{}{}_{}", prefix, name, baseline))), unit));
      };
      add("psnr", Unit::decibel), add("ssim", Unit::similarity);
      if (lpips) add("lpips", Unit::similarity);
      const int clips = mean_of(c, i, measure(fmt::format("{}psnr_{}", prefix, baseline))).count;
      row.push_back(clips > 0 ? fmt::format("{}", clips) : no_value());
    }
  }
  return table.html();
}

std::string caveat_box(const Comparison& c) {
  std::string out = "<div class=\"warn\"><strong>What may mislead</strong><ul>";
  for (const std::string& line : caveats(c)) out += "<li>" + html_text(line) + "</li>";
  return out + "</ul></div>\n";
}

// ---- plots

// PSNR is cut at a value that stands for "identical": such policies would flatten the scale for all others.
bool identical(const Comparison& c, int policy, const char* baseline) {
  return mean_of(c, policy, measure(fmt::format("psnr_{}", baseline))).value >= kMaxPsnr;
}

std::string identical_note(const Comparison& c, const char* baseline) {
  std::vector<std::string> names;
  for (int i = 0; i < static_cast<int>(c.policies.size()); ++i)
    if (identical(c, i, baseline)) names.push_back(html_text(policy_label(c, i)));
  return names.empty() ? "" : fmt::format(" Not drawn, as identical to {}: {}.", baseline, fmt::join(names, ", "));
}

struct PlotAxis {
  std::string key, label;
  double unit = 1;
};

std::string scatter(const Comparison& c, const PlotAxis& x_axis, const PlotAxis& y_axis, const char* baseline) {
  ScatterPlot plot{y_axis.label + " against " + x_axis.label, x_axis.label, y_axis.label, {}};
  for (int i = 0; i < static_cast<int>(c.policies.size()); ++i) {
    const Estimate x = mean_of(c, i, measure(x_axis.key)), y = mean_of(c, i, measure(y_axis.key));
    if (x.count > 0 && y.count > 0 && !identical(c, i, baseline))
      plot.points.push_back({policy_label(c, i), i, x.value / x_axis.unit, y.value / y_axis.unit, y.interval});
  }
  return scatter_svg(plot);
}

std::string cost_plots(const Comparison& c) {
  double most = 0;
  for (int i = 0; i < static_cast<int>(c.policies.size()); ++i)
    most = std::max(most, mean_of(c, i, measure("flops")).value);
  const double unit = most >= 1e15 ? 1e15 : most >= 1e12 ? 1e12 : 1e9;
  const char* name = unit == 1e15 ? "PFLOP a clip" : unit == 1e12 ? "TFLOP a clip" : "GFLOP a clip";
  const PlotAxis work{"flops", name, unit}, seconds{"denoise_seconds", "denoising, seconds a clip"};
  std::string out = "<div class=\"plots\">\n";
  for (const char* baseline : kBaselines) {
    if (c.policy_index(baseline) < 0) continue;
    out += figure(
        scatter(c, work, {fmt::format("psnr_{}", baseline), fmt::format("PSNR against {}, dB", baseline)}, baseline),
        fmt::format("PSNR of raw frames against {}, by FLOPs. Up and to the left is better. Bars: 95 % intervals.{}",
                    baseline, identical_note(c, baseline)));
  }
  if (c.policy_index("causal") >= 0) {
    out += figure(scatter(c, seconds, {"psnr_causal", "PSNR against causal, dB"}, "causal"),
                  "PSNR against causal by measured seconds: what the FLOPs become on this machine." +
                      identical_note(c, "causal"));
    out += figure(scatter(c, work, {"ssim_causal", "SSIM against causal"}, "causal"),
                  "SSIM of raw frames against causal, by FLOPs." + identical_note(c, "causal"));
    if (!c.lpips.empty())
      out += figure(scatter(c, work, {"lpips_causal", "LPIPS against causal"}, "causal"),
                    "LPIPS of raw frames against causal, by FLOPs. Down and to the left is better." +
                        identical_note(c, "causal"));
  }
  return out + "</div>\n";
}

std::string legend(const Comparison& c, const std::vector<int>& policies) {
  std::string out = "<div class=\"legend\">";
  for (const int i : policies) out += "<span>" + marker_svg(i) + html_text(policy_label(c, i)) + "</span>";
  return out + "</div>\n";
}

std::string curve_plots(const Comparison& c) {
  std::string out = "<div class=\"plots\">\n";
  std::vector<int> shown;
  for (size_t b = 0; b < kBaselines.size(); ++b) {
    LinePlot plot{fmt::format("PSNR against {} by frame", kBaselines[b]),
                  "frame",
                  fmt::format("PSNR against {}, dB", kBaselines[b]),
                  {},
                  c.borders.windows,
                  c.borders.chunks};
    bool gaps = false;
    for (int i = 0; i < static_cast<int>(c.policies.size()); ++i) {
      std::vector<double> y =
          mean_curve(c, i, [b](const ClipRun& run) { return run.raw[b] ? &run.raw[b]->quality.psnr : nullptr; });
      if (y.empty() || identical(c, i, kBaselines[b])) continue;
      // Identical frames are gaps: the value that stands for them would flatten the scale.
      for (double& value : y) {
        if (value < kMaxPsnr) continue;
        value = std::numeric_limits<double>::quiet_NaN();
        gaps = true;
      }
      plot.series.push_back({policy_label(c, i), i, std::move(y)});
      if (std::find(shown.begin(), shown.end(), i) == shown.end()) shown.push_back(i);
    }
    if (!plot.series.empty())
      out += figure(line_svg(plot),
                    fmt::format("Mean over clips of each frame's PSNR against {}. Dotted: chunk borders{}.{}",
                                kBaselines[b], c.borders.windows.empty() ? "" : "; solid: window borders",
                                (gaps ? " Where a line is missing, the frames are identical." : "") +
                                    identical_note(c, kBaselines[b])));
  }
  std::sort(shown.begin(), shown.end());
  return legend(c, shown) + out + "</div>\n";
}

std::string ramp() {
  std::string stops;
  for (int i = 0; i <= 4; ++i) {
    const auto colour = heat_colour(i / 4.0);
    stops += fmt::format("{}#{:02x}{:02x}{:02x}", i ? "," : "", colour[0], colour[1], colour[2]);
  }
  return fmt::format("reused <span class=\"ramp\" style=\"background:linear-gradient(90deg,{})\"></span> recomputed",
                     stops);
}

std::string step_strip(const Comparison& c) {
  StripPlot plot{"Share of tokens recomputed, by denoising step",
                 "a chunk's denoising step (its own count, noise on the left)",
                 {}};
  for (int i = 0; i < static_cast<int>(c.policies.size()); ++i) {
    std::vector<double> share = mean_curve(c, i, [](const ClipRun& run) { return &run.share_by_step; });
    if (!share.empty()) plot.rows.push_back({policy_label(c, i), std::move(share)});
  }
  return figure(strip_svg(plot), "Mean over chunks, windows, branches and clips. " + ramp());
}

// ---- pictures

std::string pictures_section(const Comparison& c, const std::vector<ClipPictures>& pictures) {
  std::string out;
  for (const ClipPictures& clip : pictures) {
    out += fmt::format("<h3>{} <span class=\"sub\">(prompt {}, seed {})</span></h3>\n",
                       html_text(c.prompts[clip.prompt]), clip.prompt + 1, clip.seed);
    if (!clip.side_by_side.empty()) {
      out += fmt::format("<video controls loop muted playsinline preload=\"none\" src=\"{}\"",
                         html_text(clip.side_by_side));
      if (clip.poster.defined()) out += fmt::format(" poster=\"{}\"", png_uri(clip.poster));
      out += fmt::format("></video>\n<p class=\"small\">Side by side with heat maps: <a href=\"{0}\">{0}</a></p>\n",
                         html_text(clip.side_by_side));
    }
    if (clip.strips.empty()) continue;
    out += fmt::format(
        "<details{}><summary>Stills of every policy</summary>\n<p class=\"small\">Frames {}. Each strip: the "
        "pictures{}; below them the share of steps in which each place was recomputed ({}).</p>\n<div "
        "class=\"strips\">\n",
        &clip == &pictures.front() ? " open" : "", fmt::join(clip.times, ", "),
        clip.difference_from.empty() ? ""
                                     : fmt::format("; the absolute difference from {}, {} times as bright",
                                                   clip.difference_from, kDifferenceGain),
        ramp());
    for (const ClipPictures::Strip& strip : clip.strips)
      out += fmt::format(
          "<figure><img class=\"strip\" alt=\"{0}, prompt {1}, seed {2}\" width=\"{3}\" height=\"{4}\" "
          "src=\"{5}\"><figcaption>{6}{0}</figcaption></figure>\n",
          html_text(policy_label(c, strip.policy)), clip.prompt + 1, clip.seed, strip.picture.size(1),
          strip.picture.size(0), png_uri(strip.picture), marker_svg(strip.policy));
    out += "</div></details>\n";
  }
  return out;
}

// ---- further tables

std::string seam_table(const Comparison& c) {
  Table table;
  table.caption =
      "A jump is the mean absolute change of all pixels from one frame to the next at a border, divided by the median "
      "of that change at all other frames of the clip: 1 is no jump.";
  table.group("", 1), table.group("window borders", 2), table.group("chunk borders", 2), table.group("anywhere", 1);
  table.columns = {"policy", "luma", "chroma", "luma", "chroma", "largest, luma"};
  for (int i = 0; i < static_cast<int>(c.policies.size()); ++i) {
    auto& row = table.row(policy_cell(c, i));
    for (const char* key :
         {"window_jump_luma", "window_jump_chroma", "chunk_jump_luma", "chunk_jump_chroma", "largest_jump_luma"})
      row.push_back(estimate_cell(mean_of(c, i, measure(key)), Unit::ratio));
  }
  return table.html();
}

std::string following_table(const Comparison& c) {
  Table table;
  table.caption =
      "Share of clips that show what the prompt says, read back from raw frames with OpenCV (longtake metrics). "
      "Prompts that name no attribute of the demo world are not counted.";
  table.columns = {"policy", "colour, shape and motion", "colour", "shape", "motion", "size", "clips"};
  bool any = false;
  for (int i = 0; i < static_cast<int>(c.policies.size()); ++i) {
    const Estimate all = mean_of(c, i, measure("follows"));
    any = any || all.count > 0;
    auto& row = table.row(policy_cell(c, i));
    for (const char* key : {"follows", "colour_right", "shape_right", "motion_right", "size_right"})
      row.push_back(estimate_cell(mean_of(c, i, measure(key)), Unit::percent));
    row.push_back(fmt::format("{}", all.count));
  }
  return any ? table.html()
             : "<p>No prompt names a colour, shape or motion of the demo world, so there is nothing to read "
               "back.</p>\n";
}

std::string runs_table(const Comparison& c) {
  Table table;
  table.columns = {"order", "policy",     "prompt",         "seed",         "denoise, s", "total, s",
                   "FLOPs", "recomputed", "PSNR to causal", "PSNR to none", "video"};
  for (const ClipRun& run : c.runs) {
    auto& row = table.row(fmt::format("{}", run.order));
    row = {row.front(), html_text(policy_label(c, run.policy)), fmt::format("{}", run.prompt + 1),
           fmt::format("{}", run.seed)};
    if (!run.done()) {
      row.resize(table.columns.size() - 1, no_value());
      row.push_back("failed: " + html_text(run.error));
      continue;
    }
    const auto add = [&](const char* key, Unit unit) {
      const auto value = measure(key).value(run);
      row.push_back(value ? format_value(*value, unit) : no_value());
    };
    add("denoise_seconds", Unit::seconds), add("total_seconds", Unit::seconds), add("flops", Unit::flops),
        add("recomputed_share", Unit::percent);
    add("psnr_causal", Unit::decibel), add("psnr_none", Unit::decibel);
    row.push_back(fmt::format("<a href=\"{0}\">{0}</a>", html_text(run.video)));
  }
  return table.html();
}

std::string method(const Comparison& c) {
  std::string out = "<ul>\n";
  const auto item = [&](const std::string& text) { out += "<li>" + text + "</li>\n"; };
  item(
      "The model was loaded once. All policies of a clip start from the same noise (same prompt and seed); clips "
      "follow one another, and within a clip the policies run in an order that moves on by one from clip to clip, "
      "so that no policy always runs first or on a warm machine.");
  item(c.warmup.empty()
           ? "There was no warm-up run."
           : fmt::format(
                 "Warm-up, excluded from all numbers: {}.{}", html_text(c.warmup),
                 !c.repeatable ? ""
                 : *c.repeatable
                     ? " When the same run came again among the measured ones, its frames were the same bit for bit."
                     : " When the same run came again, its frames were not the same bit for bit."));
  item(
      "PSNR: from the mean squared error over all pixels, channels and frames of a clip, 8-bit values, at most 100 dB "
      "(identical clips). SSIM: 11x11 Gaussian window, sigma 1.5, data range 1, per channel, valid area, mean over "
      "frames (as scikit-image and torchmetrics compute it). Curves show each frame's own PSNR.");
  item(c.lpips.empty()
           ? "LPIPS: not measured, no weights given."
           : fmt::format("LPIPS: TorchScript module <code>{}</code>, mean over frames.", html_text(c.lpips)));
  const BootstrapSettings b;
  item(fmt::format(
      "Intervals: two-stage cluster bootstrap, percentile method, {} resamples, seed {}: prompts are drawn with "
      "replacement, then the clips of each drawn prompt. Speedups are ratios of summed seconds, resampled in "
      "pairs. Where there is one clip there is no interval.",
      b.resamples, b.seed));
  item(
      fmt::format("Machine: {}, {} threads, {} of memory{}; {}; device {}, {}. Loading the model and encoding the "
                  "prompts took {:.1f} s.",
                  html_text(c.machine.cpu), c.machine.threads, format_bytes(static_cast<double>(c.machine.memory)),
                  c.machine.gpu.empty() ? "" : "; " + html_text(c.machine.gpu), html_text(c.machine.system),
                  html_text(c.device), html_text(c.dtype), c.load_seconds));
  item(
      fmt::format("longtake {}; raw numbers of every run, frame by frame: <a href=\"results.json\">results.json</a>, a "
                  "line a run: <a href=\"results.csv\">results.csv</a>.",
                  html_text(c.version)));
  out += "</ul>\n";
  if (!c.command.empty()) out += "<p>Command:</p><pre><code>" + html_text(c.command) + "</code></pre>\n";
  return out + "<details><summary>Options shared by all policies</summary><pre><code>" +
         html_text_lines(c.options.dump(2, ' ', false, nlohmann::json::error_handler_t::replace)) +
         "</code></pre></details>\n";
}

std::string section(const char* id, const char* title, const std::string& body) {
  return fmt::format("<section id=\"{}\"><h2>{}</h2>\n{}</section>\n", id, title, body);
}

}  // namespace

std::string comparison_page(const Comparison& c, const std::vector<ClipPictures>& pictures) {
  std::string page =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">\n";
  page += fmt::format(
      "<title>longtake compare: {}</title>\n<link rel=\"icon\" "
      "href=\"data:,\">\n<style>{}</style></head>\n<body><main>\n",
      html_text(c.model), page_style());
  page += "<h1>Cache policies compared</h1>\n";
  page += fmt::format(
      "<p class=\"sub\">{} · {} frames of {}x{} · {} steps · {} window{} · {} prompt{} x {} seed{} · {} · {}</p>\n",
      html_text(c.model), c.frames, c.width, c.height, c.steps, c.windows, c.windows == 1 ? "" : "s", c.prompts.size(),
      c.prompts.size() == 1 ? "" : "s", c.seeds.size(), c.seeds.size() == 1 ? "" : "s",
      html_text(c.machine.gpu.empty() ? c.machine.cpu : c.machine.gpu), html_text(c.date));
  page +=
      "<nav aria-label=\"Sections\"><a href=\"#summary\">Summary</a><a href=\"#cost\">Quality and cost</a><a "
      "href=\"#time\">Over time</a><a href=\"#work\">Work by step</a><a href=\"#pictures\">Pictures</a>"
      "<a href=\"#seams\">Seams</a><a href=\"#follow\">Prompt following</a><a href=\"#encoded\">Encoded files</a><a "
      "href=\"#runs\">All runs</a><a href=\"#method\">Method</a></nav>\n";
  page +=
      "<section id=\"summary\"><h2>Summary</h2>\n" + lead(c) + cost_table(c) +
      closeness_table(c, "", "raw frames",
                      "Closeness of decoded frames before compression. PSNR over whole clips, 100 dB for identical "
                      "ones; SSIM mean over frames. A baseline's own row shows how far the two baselines lie apart.") +
      caveat_box(c) + "</section>\n";
  page += section("cost", "Quality against cost", cost_plots(c));
  page += section("time", "Closeness over time", curve_plots(c));
  page += section("work", "What is recomputed, step by step", step_strip(c));
  page += section("pictures", "Pictures", pictures_section(c, pictures));
  page += section("seams", "Seams", seam_table(c));
  page += section("follow", "Prompt following", following_table(c));
  page += section(
      "encoded", "Encoded files, for comparison with papers",
      closeness_table(c, "encoded_", "mp4",
                      "The same measures on the H.264 files, decoded again, policy against baseline: the way papers "
                      "measure. Compression noise on both sides hides small differences and adds its own."));
  page += section("runs", "All runs",
                  fmt::format("<details><summary>{} runs in the order they were made</summary>\n{}</details>\n",
                              c.runs.size(), runs_table(c)));
  page += section("method", "Method", method(c));
  return page + "</main></body></html>\n";
}

}  // namespace longtake
