#include "runtime/magi_denoise.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "base/error.h"
#include "cache/kv_cache.h"
#include "models/ops/patches.h"
#include "runtime/magi_step.h"
#include "runtime/magi_velocities.h"

namespace longtake::magi {
namespace {

// For each row, the first chunk that it or a later one attends to.
std::vector<int64_t> first_keys_needed(const std::vector<Row>& rows) {
  std::vector<int64_t> needed(rows.size());
  for (size_t i = rows.size(); i-- > 0;) {
    needed[i] = i + 1 < rows.size() ? needed[i + 1] : rows[i].chunks.front().chunk;
    for (const ChunkStep& c : rows[i].chunks) needed[i] = std::min(needed[i], c.keys.begin);
  }
  return needed;
}

bool is_partial(const TokenSet& set) { return !set.is_all() && !set.is_none(); }

class VideoLoop {
 public:
  // latents [C, F, h, w]: noise; the loop puts the prefix there.
  VideoLoop(const Backbone& backbone, CachePolicy& policy, const VideoSettings& settings, const at::Tensor& prefix,
            const at::Tensor& latents, NoiseSource& noise, RunStats& stats, const DenoiseHooks& hooks)
      : backbone_(backbone),
        policy_(policy),
        settings_(settings),
        rows_(rows(settings.schedule, settings.size)),
        needed_(first_keys_needed(rows_)),
        prefix_(prefix),
        latents_(latents),
        noise_(noise),
        stats_(stats),
        hooks_(hooks),
        dtype_(backbone.embed(chunk_latents(0)).scalar_type()),
        kv_(backbone.kv_shape(), dtype_, latents.device(), TokenRange{0, 0}),
        velocities_(policy.residuals()) {
    const WindowGeometry& g = backbone.geometry();
    LONGTAKE_CHECK(static_cast<int>(g.chunks.size()) == settings.size.chunks && g.frames() == settings.size.frames(),
                   "expected a backbone of {} chunks and {} frames, found {} and {}", settings.size.chunks,
                   settings.size.frames(), g.chunks.size(), g.frames());
    stats_.kv_full_bytes = std::max(stats_.kv_full_bytes, kv_.shape().bytes(dtype_));
    if (prefix_.defined()) {
      const at::Tensor place = latents_.narrow(1, 0, prefix_.size(1));
      if (settings.quirks.noisy_motion) noise_under_prefix_ = place.clone();
      place.copy_(prefix_);
    }
    policy_.begin_window(0);
  }

  at::Tensor run() {
    for (int row = first_row_; row < count(); ++row) {
      compute(row);
      if (hooks_.on_row) hooks_.on_row(row, count());
      const int finished = rows_[row].finished;
      if (finished >= 0) velocities_.forget(finished);
      if (!hooks_.on_row_end) continue;
      hooks_.on_row_end({row, count(), finished < 0 ? std::vector<int>{} : std::vector<int>{finished}, latents_,
                         [this, row] { return state(row); }, stats_});
    }
    return latents_;
  }

  void load(const State& state) {
    const int64_t row = state.integers("row", 1)[0];
    if (row < 0 || row >= count()) state.refuse(fmt::format("row {} is none of {}", row, count()));
    first_row_ = static_cast<int>(row) + 1;
    latents_.copy_(state.get("latents", latents_.sizes(), at::kFloat));
    load_kv(state);
    const StateLayout layout = state_layout();
    velocities_.load(state, layout);
    policy_.load(state, layout);
    noise_.load(state, {1, 1, 0});  // the prefix gets none
    stats_.load(state);
    state.check_all_read();
  }

 private:
  // One chunk of a row.
  struct ChunkWork {
    const ChunkStep* at;
    bool update;  // it is denoised, and not only there for its keys
    StepContext context;
    at::Tensor input;     // latents [C, F, h, w] with the given frames as they were given
    at::Tensor embedded;  // [tokens, dim]
    Decision decision;
    bool diluted = false;  // see Quirks::diluted_copies
  };

  int count() const { return static_cast<int>(rows_.size()); }

  State state(int row) const {
    State state;
    state.put_integers("row", {row});
    state.put("latents", latents_);
    kv_.save(state);
    velocities_.save(state);
    policy_.save(state);
    noise_.save(state);
    stats_.save(state);
    return state;
  }

  void load_kv(const State& state) {
    const TokenRange expected = held(first_row_ - 1);
    kv_.load(state);
    for (int64_t layer = 0; layer < kv_.shape().layers; ++layer)
      for (int b = 0; b < kv_.shape().branches; ++b)
        if (const KvLayer& found = kv_.layer(layer, b); found.first != expected.begin || found.end() != expected.end)
          state.refuse(fmt::format("'kv/{}/{}/held' should be [{}, {}), found [{}, {})", layer, b, expected.begin, expected.end, found.first,
                                   found.end()));
  }

  // Policies observe latents by patch, and velocities by patch are what is kept.
  StateLayout state_layout() const {
    const WindowGeometry& g = backbone_.geometry();
    const at::Tensor first = chunk_latents(0);
    const StateLayout::Rows patches{patch_rows(first).size(1), at::kFloat};
    StateLayout layout{{}, g.plane, 1, {backbone_.embed(first).size(1), dtype_}, patches, patches, latents_.device()};
    for (const auto& chunk : g.chunks) layout.frames.push_back(chunk.frames);
    return layout;
  }

  at::Tensor chunk_latents(int chunk) const {
    const auto& span = backbone_.geometry().chunks[chunk];
    return latents_.narrow(1, span.first, span.frames);
  }

  // Puts the given frames among `chunk`'s into `latents` [C, F, h, w].
  void restore_prefix(int chunk, const at::Tensor& latents) const {
    const auto& span = backbone_.geometry().chunks[chunk];
    const int64_t given = std::min(settings_.size.prefix_frames - span.first, span.frames);
    if (given > 0) latents.narrow(1, 0, given).copy_(prefix_.narrow(1, span.first, given));
  }

  // The tokens whose keys are there in a row: those that it or a later row attends to, up to its newest chunk.
  TokenRange held(int row) const {
    const WindowGeometry& g = backbone_.geometry();
    const int newest = rows_[row].chunks.back().chunk;
    return {g.start(static_cast<int>(needed_[row])), g.start(newest) + g.chunk_tokens(newest)};
  }

  std::vector<ChunkWork> plan(int index) {
    const Row& row = rows_[index];
    const WindowGeometry& g = backbone_.geometry();
    RowContext context{0, index, count(), {}};
    for (const auto& span : g.chunks) context.chunks.push_back({0, span.frames, false});
    std::vector<ChunkWork> work;
    for (const ChunkStep& c : row.chunks) {
      const bool update = c.step < settings_.schedule.steps;
      context.chunks[c.chunk].timestep = c.t;
      context.chunks[c.chunk].update = update;
      const int64_t frames = g.chunks[c.chunk].frames;
      ChunkWork w{&c, update, {0, c.chunk, c.step, settings_.schedule.steps, frames, g.plane, row.prefix}, {}, {}, {}};
      w.input = chunk_latents(c.chunk).clone();
      restore_prefix(c.chunk, w.input);
      w.embedded = backbone_.embed(w.input);
      work.push_back(std::move(w));
    }
    policy_.begin_row(context);
    for (ChunkWork& w : work)
      if (w.update) policy_.input(w.context, by_token(w, w.embedded));
    for (ChunkWork& w : work) {
      if (!w.update) continue;
      w.decision = policy_.decide(w.context).at(0);
      const bool copied = row.nearly_clean && w.at == &in_flight(row).front();
      w.diluted = settings_.quirks.diluted_copies && copied && is_partial(w.decision.tokens);
    }
    return work;
  }

  // The items that run, and the count of the work.
  std::vector<WorkItem> chosen_items(int index, const std::vector<ChunkWork>& work) {
    const Row& row = rows_[index];
    std::vector<WorkItem> items;
    const bool all_copies = std::any_of(work.begin(), work.end(), [](const ChunkWork& w) { return w.diluted; });
    for (const ChunkWork& w : work) record(index, w);
    for (WorkItem& item : work_items(row, settings_.schedule, settings_.config, chunk_tokens(), all_copies)) {
      const ChunkWork& w =
          *std::find_if(work.begin(), work.end(), [&](const auto& c) { return c.at->chunk == item.chunk; });
      const bool partial = is_partial(w.decision.tokens);
      // Copies are whole chunks: nobody has the keys of the rest.
      if (partial && (item.writes_kv || keeps_keys(item))) {
        item.tokens = w.decision.tokens;
        if (settings_.quirks.first_chunks_keys) item.keys = tokens_of(in_flight(row).front().keys);
      }
      count_work(w, item);
      if (!w.decision.tokens.is_none()) items.push_back(std::move(item));
    }
    return items;
  }

  // Whether a branch that does not write has the keys of the tokens that it does not compute: a base model's, since the chunk's first step.
  bool keeps_keys(const WorkItem& item) const {
    if (settings_.config.engine.distilled) return false;
    LONGTAKE_CHECK(settings_.own_keys && runs_from_the_start(settings_.config.run, item.branch),
                   "expected all or no tokens of chunk {}: branch {} of guidance has no keys of the rest", item.chunk, item.branch);
    return true;
  }

  int64_t chunk_tokens() const { return backbone_.geometry().chunk_tokens(0); }
  KeyRange tokens_of(KeyRange chunks) const { return {chunks.begin * chunk_tokens(), chunks.end * chunk_tokens()}; }

  void compute(int index) {
    const Row& row = rows_[index];
    const std::vector<ChunkWork> work = plan(index);
    const std::vector<WorkItem> items = chosen_items(index, work);
    kv_.hold(held(index));
    std::vector<at::Tensor> inputs, hidden, velocities;
    for (const WorkItem& item : items)
      for (const ChunkWork& w : work)
        if (w.at->chunk == item.chunk) inputs.push_back(w.embedded);
    if (!items.empty()) hidden = backbone_.forward(items, inputs, kv_);
    for (size_t i = 0; i < items.size(); ++i) velocities.push_back(velocity(items[i], hidden[i]));
    count_kv();
    const std::vector<at::Tensor> guided = guided_velocities(row, settings_.config, items, velocities);
    size_t next = 0;
    std::vector<at::Tensor> seen;
    for (const ChunkWork& w : work) seen.push_back(w.update ? advance(w, guided[next++]) : prefix_seen(w));
    for (size_t i = 0; i < work.size(); ++i)
      if (work[i].update || row.prefix) policy_.observe(work[i].context, 0, by_token(work[i], patch_rows(seen[i])));
  }

  static at::Tensor by_token(const ChunkWork& w, const at::Tensor& rows) {
    return rows.view({w.context.frames, w.context.plane, -1});
  }

  // What the policy observes of a chunk that is not denoised.
  at::Tensor prefix_seen(const ChunkWork& w) const {
    const auto& span = backbone_.geometry().chunks[w.at->chunk];
    return settings_.quirks.noisy_motion && w.context.prefix ? noise_under_prefix_.narrow(1, span.first, span.frames)
                                                             : w.input;
  }

  // [C, F, h, w]; zero for tokens that the item does not compute, undefined where the chunk is finished.
  at::Tensor velocity(const WorkItem& item, const at::Tensor& hidden) const {
    if (item.finished) return {};
    if (item.tokens.is_all()) return backbone_.head(hidden, item.timesteps);
    const WindowGeometry& g = backbone_.geometry();
    const int64_t frames = g.chunks[item.chunk].frames;
    const at::Tensor all = at::zeros({frames * g.plane, hidden.size(1)}, hidden.options());
    all.index_copy_(0, item.tokens.indices(frames, g.plane, hidden.device()), hidden);
    const at::Tensor computed = item.tokens.mask(frames, g.plane, hidden.device()).view({-1, 1});
    const at::Tensor rows = patch_rows(backbone_.head(all, item.timesteps));
    return from_patch_rows(at::where(computed, rows, at::zeros_like(rows)), frames, g.latent_height, g.latent_width);
  }

  // Moves the chunk's latents by the velocity of what was computed, undefined for nothing, and what is kept of the
  // rest. Returns what the policy observes.
  at::Tensor advance(const ChunkWork& w, const at::Tensor& computed) {
    const float dt = w.at->t_next - w.at->t;
    // Once a chunk is enough to catch broken weights, and cheap enough to do always.
    if (w.at->step == 0 && computed.defined() && !at::isfinite(computed).all().item<bool>())
      fail(ExitCode::numerical,
           "the model's output is not finite at the first step of chunk {}; check the checkpoint, or run with --dtype "
           "fp32",
           w.at->chunk + 1);
    Decision decision = w.decision;
    if (w.diluted) decision.tokens = TokenSet::all();
    const bool displacement = settings_.quirks.displacement;
    at::Tensor moved;
    const at::Tensor kept =
        velocities_.complete(w.at->chunk, decision, displacement && computed.defined() ? computed * dt : computed,
                             w.input, 1 - w.at->t, policy_.wants_change() ? &moved : nullptr);
    if (moved.defined()) policy_.changed(w.context, 0, moved.view({w.context.frames, w.context.plane}));
    const at::Tensor next = w.input + (displacement ? kept : kept * dt);
    const at::Tensor target = chunk_latents(w.at->chunk);
    target.copy_(next);
    if (!settings_.quirks.moved_prefix) restore_prefix(w.at->chunk, target);
    return settings_.quirks.noisy_motion ? next : w.input + kept * (displacement ? (1 - w.at->t) / dt : 1 - w.at->t);
  }

  void record(int index, const ChunkWork& w) {
    if (!hooks_.on_decision) return;
    const int64_t tokens = w.context.frames * w.context.plane;
    hooks_.on_decision({0, index, w.at->chunk, 0, w.at->step, w.decision,
                        w.decision.tokens.count(w.context.frames, w.context.plane), tokens, w.update, w.context.frames,
                        w.context.plane});
  }

  // Of an item as it runs, or would if its chunk were not reused.
  void count_work(const ChunkWork& w, const WorkItem& item) {
    const int64_t tokens = w.context.frames * w.context.plane, keys = item.keys.end - item.keys.begin;
    const int64_t recomputed = w.decision.tokens.is_none() ? 0 : item.tokens.count(w.context.frames, w.context.plane);
    const double full = backbone_.flops(tokens, keys), spent = backbone_.flops(recomputed, keys);
    const int64_t rest = tokens - recomputed;
    const bool predicted = w.decision.rest == Rest::predict;
    stats_.by_chunk[{0, w.at->chunk, w.decision.phase}] +=
        {recomputed, predicted ? 0 : rest, predicted ? rest : 0, spent, full - spent};
  }

  void count_kv() {
    const int64_t bytes = kv_.bytes();
    stats_.kv_bytes = std::max(stats_.kv_bytes, bytes);
    stats_.kv_row_bytes += static_cast<double>(bytes);
    ++stats_.kv_rows;
  }

  const Backbone& backbone_;
  CachePolicy& policy_;
  const VideoSettings& settings_;
  const std::vector<Row> rows_;
  const std::vector<int64_t> needed_;
  const at::Tensor prefix_;
  const at::Tensor latents_;
  NoiseSource& noise_;
  RunStats& stats_;
  const DenoiseHooks& hooks_;
  const at::ScalarType dtype_;
  KvCache kv_;
  KeptVelocities velocities_;
  at::Tensor noise_under_prefix_;  // for a quirk alone; only read in the row of the prefix: no part of the state
  int first_row_ = 0;
};

}  // namespace

VideoSettings VideoSettings::of(const Config& config, int prefix_frames) {
  return {config, ScheduleSettings::of(config), VideoSize::of(config.run, prefix_frames), {}};
}

WindowGeometry video_geometry(const VideoSize& size, int64_t latent_height, int64_t latent_width) {
  WindowGeometry g;
  for (int c = 0; c < size.chunks; ++c) g.chunks.push_back({c * size.chunk_frames, size.chunk_frames});
  g.latent_height = latent_height;
  g.latent_width = latent_width;
  return g;
}

at::Tensor denoise_video(const Backbone& backbone, CachePolicy& policy, const VideoSettings& settings,
                         const at::Tensor& prefix, NoiseSource& noise, const at::Device& device, RunStats& stats,
                         const DenoiseHooks& hooks, const State* resume) {
  const VideoSize& size = settings.size;
  const WindowGeometry& g = backbone.geometry();
  const std::vector<int64_t> shape{settings.config.model.latent_channels(), size.frames(), g.latent_height,
                                   g.latent_width};
  const int64_t given = prefix.defined() ? prefix.size(1) : 0;
  LONGTAKE_CHECK(given == size.prefix_frames, "expected {} given latent frames, found {}", size.prefix_frames, given);
  // A state brings its own latents, and a sequential generator has drawn the noise already.
  const at::Tensor latents = resume ? at::zeros(shape, at::TensorOptions().dtype(at::kFloat).device(device))
                                    : noise.latents(0, shape).to(device);
  const at::Tensor frames = prefix.defined() ? prefix.to(device, at::kFloat) : at::Tensor();
  VideoLoop loop(backbone, policy, settings, frames, latents, noise, stats, hooks);
  if (resume) loop.load(*resume);
  return loop.run();
}

}  // namespace longtake::magi
