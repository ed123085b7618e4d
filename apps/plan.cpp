// longtake plan show FILE: which share of a chunk is recomputed in which step, in the terminal or as a picture.
#include <fmt/format.h>
#include <langinfo.h>

#include <clocale>
#include <cstring>
#include <map>

#include "apps/commands.h"
#include "base/error.h"
#include "cache/plan_text.h"
#ifdef LONGTAKE_VIDEO_IO
#include "video_io/plan_picture.h"
#include "video_io/png.h"
#endif

namespace longtake {
namespace {

constexpr int kWidth = 80, kLabel = 10;

struct Shades {
  const char *reused, *predicted, *some, *half, *most, *all, *unknown;
};
constexpr Shades kUnicode{"\u00b7", "~", "\u2591", "\u2592", "\u2593", "\u2588", "?"}, kAscii{".", "~", "-", "=", "%", "#", "?"};

bool utf8_terminal() {
  std::setlocale(LC_CTYPE, "");
  const bool utf8 = std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  std::setlocale(LC_CTYPE, "C");
  return utf8;
}

const char* shade_of(const PlanCell& cell, const Shades& shades) {
  if (!cell.known) return shades.unknown;
  if (cell.share == 0) return cell.rest == Rest::predict ? shades.predicted : shades.reused;
  if (cell.share >= 1) return shades.all;
  return cell.share <= 1.0 / 3 ? shades.some : cell.share <= 2.0 / 3 ? shades.half : shades.most;
}

// Several steps as one: their mean, known where all are, predicted where any is.
PlanCell mean_of(const std::vector<PlanCell>& cells, size_t first, size_t count) {
  PlanCell mean{.known = true};
  count = std::min(count, cells.size() - first);
  for (size_t i = first; i < first + count; ++i) {
    mean.known &= cells[i].known;
    mean.share += cells[i].share / static_cast<double>(count);
    if (cells[i].rest == Rest::predict) mean.rest = Rest::predict;
  }
  return mean;
}

void show(const Plan& plan, const PlanGrid& grid, bool ascii) {
  const Shades& shades = ascii ? kAscii : kUnicode;
  if (!plan.comment.empty()) fmt::print("{}\n", plan.comment);
  fmt::print("{} attention, {} entr{}", plan.attention == AttentionScheme::causal ? "causal" : "full", plan.entries.size(),
             plan.entries.size() == 1 ? "y" : "ies");
  if (plan.extras) fmt::print(", with passes for clean keys and nearly clean copies");
  if (plan.geometry)
    fmt::print(", {} tokens a latent frame, {} branch{}", plan.geometry->plane, plan.geometry->branches, plan.geometry->branches == 1 ? "" : "es");
  fmt::print("\n\n");
  const int room = kWidth - kLabel, each = (grid.steps + room - 1) / room;
  std::string ruler(kLabel, ' ');
  for (int s = 0; s < grid.steps; s += 10 * each) {
    ruler.resize(static_cast<size_t>(kLabel + s / each), ' ');
    ruler += fmt::format("{}", s + 1);
  }
  fmt::print("{}\n", ruler.substr(0, kWidth));
  for (const PlanGrid::Row& row : grid.rows) {
    std::string line = fmt::format("w{:<3} c{:<4}", row.window + 1, row.chunk + 1);
    if (row.prefix)
      line += "(prefix)";
    else
      for (int s = 0; s < grid.steps; s += each) line += shade_of(mean_of(row.cells, static_cast<size_t>(s), static_cast<size_t>(each)), shades);
    fmt::print("{}\n", line);
  }
  fmt::print("\n{} all recomputed  {} most  {} half  {} some  {} reused  {} predicted", shades.all, shades.most, shades.half, shades.some,
             shades.reused, shades.predicted);
  fmt::print("{}\nrecomputed: {:.1f} % of the tokens\n", each > 1 ? fmt::format("  ({} steps a column)", each) : "", 100 * grid.share());
}

}  // namespace

void add_plan(CLI::App& program) {
  struct Arguments {
    std::string file, out;
    bool ascii = false;
  };
  auto* verb = program.add_subcommand("plan", "Looks at recorded decisions (generate --record-plan, --plan)");
  verb->require_subcommand(1);
  auto* shown = verb->add_subcommand("show", "Draws a plan: chunks down, steps across, the share that is recomputed");
  auto a = std::make_shared<Arguments>();
  shown->add_option("FILE", a->file, "The plan")->required();
  shown->add_option("-o,--out", a->out, "Write a picture (.png) instead")->type_name("FILE");
  shown->add_flag("--ascii", a->ascii, "Draw with plain characters; the default where the terminal's locale is not UTF-8");
  shown->callback([a] {
    const Plan plan = read_plan(a->file);
    const PlanGrid grid = plan_grid(plan);
    if (a->out.empty()) return show(plan, grid, a->ascii || !utf8_terminal());
#ifdef LONGTAKE_VIDEO_IO
    if (std::filesystem::path(a->out).extension() != ".png") fail_usage("--out must end in .png, found '{}'", a->out);
    write_png(a->out, draw_plan(grid));
    fmt::print("{}\n", a->out);
#else
    fail_usage("this build writes no pictures (LONGTAKE_VIDEO_IO is off); leave out --out");
#endif
  });
}

}  // namespace longtake
