#include "runtime/denoise.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>

#include "base/error.h"
#include "base/op_scope.h"
#include "cache/kv_cache.h"
#include "cache/residual.h"

namespace longtake {
namespace {

class WindowLoop {
 public:
  WindowLoop(const Backbone& backbone, CachePolicy& policy, const Schedule& schedule, const UniPc& solver,
             const DenoiseSettings& settings, int window, at::Tensor latents, NoiseSource& noise, RunStats& stats,
             const DenoiseHooks& hooks)
      : backbone_(backbone), policy_(policy), schedule_(schedule), solver_(solver), settings_(settings), window_(window),
        latents_(std::move(latents)), noise_(noise), stats_(stats), hooks_(hooks),
        compressor_(make_kv(settings.kv, kv_chunks(backbone.geometry()))),
        kv_(backbone.kv_shape(), backbone_dtype(), latents_.device(), compressor_ ? std::optional(TokenRange{0, 0}) : std::nullopt),
        residuals_(policy.residuals()),
        solver_state_(schedule.chunks()) {
    const WindowGeometry& g = backbone.geometry();
    LONGTAKE_CHECK(schedule.chunks() == static_cast<int>(g.chunks.size()) && latents_.size(1) == g.frames(),
                   "expected {} chunks and {} frames, found {} and {}", g.chunks.size(), g.frames(), schedule.chunks(),
                   latents_.size(1));
    LONGTAKE_CHECK(!compressor_ || settings_.attention == AttentionScheme::causal, "expected causal attention with K/V compression");
    stats_.kv_full_bytes = std::max(stats_.kv_full_bytes, kv_.shape().bytes(backbone_dtype()));
    if (compressor_) kv_.reserve(most_kv_tokens(settings_.kv, g, schedule_));
    policy_.begin_window(window);
    LONGTAKE_CHECK(!compressor_ || !g.end_picture, "expected no end picture with K/V compression");
    for (int c = g.end_picture ? 1 : 0; c < schedule.ready_chunks(); ++c) prefix_frames_ += g.chunks[c].frames;
  }

  at::Tensor run() {
    for (int row = first_row_; row < schedule_.rows(); ++row) {
      noise_prefix(row);
      compute(row);
      if (hooks_.on_row) hooks_.on_row(row, schedule_.rows());
      if (!hooks_.on_row_end) continue;
      RowEnd end{row, schedule_.rows(), {}, latents_, [this, row] { return state(row); }, stats_};
      for (int c = schedule_.ready_chunks(); c < schedule_.chunks(); ++c)
        if (schedule_.last_row(c) == row) end.finished.push_back(c);
      hooks_.on_row_end(end);
    }
    return latents_;
  }

  void load(const State& state) {
    const int64_t row = state.integers("row", 1)[0];
    if (row < 0 || row >= schedule_.rows()) state.refuse(fmt::format("row {} is none of {}", row, schedule_.rows()));
    first_row_ = static_cast<int>(row) + 1;
    latents_.copy_(state.get("latents", latents_.sizes(), at::kFloat));
    for (int c = 0; c < schedule_.chunks(); ++c)
      solver_state_[c].load(state, fmt::format("solver/{}", c), updates(c, first_row_), chunk_latents(latents_, c).sizes(), latents_.device());
    if (needs_kv()) load_kv(state);
    const StateLayout layout = state_layout(backbone_, chunk_latents(latents_, 0), settings_.branches());
    residuals_.load(state, layout);
    policy_.load(state, layout);
    const bool more = first_row_ < schedule_.rows() && draws_prefix(first_row_);
    noise_.load(state, {window_ + 1, more ? window_ : window_ + 1, more ? first_row_ : 0});
    stats_.load(state);
    state.check_all_read();
  }

 private:
  struct ChunkWork {
    int chunk;
    bool update;                     // the solver moves it in this row
    bool keep;                       // its hidden state is wanted: it is updated, or it is context that the policy observes
    bool store;                      // its residual is wanted: it is updated, or will be in later rows
    std::vector<double> timesteps;
    StepContext context;
    std::vector<Decision> decisions;
    at::Tensor embedded;
    std::vector<at::Tensor> hidden;  // complete, by branch
  };

  // Where every chunk is computed in every row, the rows of the last one are of no more use.
  bool needs_kv() const { return settings_.attention == AttentionScheme::causal || policy_.residuals() > 0; }

  State state(int row) const {
    State state;
    state.put_integers("row", {row});
    state.put("latents", latents_);
    for (int c = 0; c < schedule_.chunks(); ++c) solver_state_[c].save(state, fmt::format("solver/{}", c));
    if (needs_kv()) kv_.save(state);
    if (compressor_) compressor_->save(state);
    residuals_.save(state);
    policy_.save(state);
    noise_.save(state);
    stats_.save(state);
    return state;
  }

  void load_kv(const State& state) {
    kv_.load(state);
    if (!compressor_) return;
    const int finished = finished_chunks(first_row_ - 1);
    const int64_t boundary = kv_chunks(backbone_.geometry()).bounds[static_cast<size_t>(finished)];
    for (int64_t layer = 0; layer < kv_.shape().layers; ++layer)
      for (int b = 0; b < kv_.shape().branches; ++b)
        if (const KvLayer& held = kv_.layer(layer, b); held.first > boundary || held.end() < boundary)
          state.refuse(fmt::format("the keys of layer {} stand for tokens [{}, {}), but {} are finished", layer, held.first, held.end(), boundary));
    compressor_->load(state, kv_, finished);
  }

  // How many chunks, from the first on, need no more rows behind this one. The prefix has last row -1.
  int finished_chunks(int row) const {
    int finished = 0;
    while (finished < schedule_.chunks() && schedule_.last_row(finished) <= row) ++finished;
    return finished;
  }

  static KvChunks kv_chunks(const WindowGeometry& g) {
    KvChunks chunks{{0}, g.plane};
    for (const auto& chunk : g.chunks) chunks.bounds.push_back((chunk.first + chunk.frames) * g.plane);
    return chunks;
  }

  at::ScalarType backbone_dtype() const {
    return backbone_.embed(chunk_latents(latents_, 0)).scalar_type();
  }

  at::Tensor chunk_latents(const at::Tensor& latents, int chunk) const {
    const auto& span = backbone_.geometry().chunks[chunk];
    return latents.narrow(1, span.first, span.frames);
  }

  // How often the solver has moved a chunk before this row.
  int updates(int chunk, int row) const {
    int count = 0;
    for (int r = 0; r < row; ++r) count += schedule_.row(r)[chunk].update;
    return count;
  }

  bool draws_prefix(int row) const {
    if (prefix_frames_ == 0 || settings_.prefix_noise == 0) return false;
    return settings_.attention == AttentionScheme::window || row == 0 || settings_.noise_every_row;
  }

  // The prefix as the model sees it in this row; the clean latents stay as they are.
  void noise_prefix(int row) {
    if (!draws_prefix(row)) return;
    const int64_t first = backbone_.geometry().end_picture ? 1 : 0;  // an end picture stays clean
    const at::Tensor clean = latents_.narrow(1, first, prefix_frames_);
    const double share = 0.001 * settings_.prefix_noise;
    noised_prefix_ = clean * (1 - share) + noise_.prefix(window_, row, clean.sizes()).to(clean.device()) * share;
    if (first > 0) noised_prefix_ = at::cat({latents_.narrow(1, 0, first), noised_prefix_}, 1);
  }

  at::Tensor model_input(int chunk) const {
    if (chunk < schedule_.ready_chunks() && noised_prefix_.defined()) return chunk_latents(noised_prefix_, chunk);
    return chunk_latents(latents_, chunk);
  }

  bool is_end_picture(int chunk) const { return chunk == 0 && backbone_.geometry().end_picture; }

  double timestep_of(int row, int chunk) const {
    if (is_end_picture(chunk)) return 0;
    return chunk < schedule_.ready_chunks() ? settings_.prefix_noise : schedule_.row(row)[chunk].timestep;
  }

  RowContext row_context(int row) const {
    RowContext context{window_, row, schedule_.rows(), {}};
    for (int c = 0; c < schedule_.chunks(); ++c)
      context.chunks.push_back({timestep_of(row, c), backbone_.geometry().chunks[c].frames, schedule_.row(row)[c].update});
    return context;
  }

  std::vector<ChunkWork> plan(int row) {
    const WindowGeometry& g = backbone_.geometry();
    policy_.begin_row(row_context(row));
    std::vector<ChunkWork> work;
    std::vector<bool> computes(settings_.branches(), false);  // by branch: whether any chunk that moves is computed
    for (int c = 0; c < schedule_.chunks(); ++c) {
      const ChunkStep step = schedule_.row(row)[c];
      const bool prefix = c < schedule_.ready_chunks(), window = settings_.attention == AttentionScheme::window;
      const bool runs = window || step.update || (prefix && row == 0);
      if (!runs) continue;
      ChunkWork w;
      w.chunk = c;
      w.update = step.update;
      w.keep = step.update || (prefix && !window && !is_end_picture(c));  // no policy compares anything with what comes at the end
      w.store = policy_.residuals() > 0 && (step.update || step.idle);
      w.timesteps.assign(g.chunks[c].frames, timestep_of(row, c));
      w.context = {window_, c, step.step, schedule_.steps(), g.chunks[c].frames, g.plane, prefix};
      std::optional<OpScope> scope(std::in_place, "embed");
      w.embedded = backbone_.embed(model_input(c));
      scope.reset();
      if (w.keep) policy_.input(w.context, w.embedded.view({w.context.frames, w.context.plane, -1}));
      w.hidden.resize(settings_.branches());
      work.push_back(std::move(w));
    }
    const OpScope scope("policy decides");
    for (ChunkWork& w : work) {
      if (!w.keep) continue;
      w.decisions = policy_.decide(w.context);
      for (int b = 0; b < settings_.branches(); ++b)
        if (!w.decisions[b].tokens.is_none()) computes[b] = true;
    }
    // Chunks that only stand by are there to be attended to: they run when somebody does.
    for (ChunkWork& w : work) {
      if (w.keep) continue;
      w.decisions.resize(settings_.branches());
      for (int b = 0; b < settings_.branches(); ++b)
        if (!computes[b] && settings_.attention == AttentionScheme::window) w.decisions[b] = {.tokens = TokenSet::none(), .phase = Phase::chunk};
    }
    return work;
  }

  KeyRange keys_of(int chunk) const {
    const WindowGeometry& g = backbone_.geometry();
    if (settings_.attention == AttentionScheme::window) return {0, g.tokens()};
    return {0, g.start(chunk) + g.chunk_tokens(chunk)};
  }

  void compute(int row) {
    std::vector<ChunkWork> work = plan(row);
    std::vector<WorkItem> items;
    std::vector<at::Tensor> inputs;
    for (int b = 0; b < settings_.branches(); ++b) {
      for (const ChunkWork& w : work) {
        record(row, w, b);
        if (w.decisions[b].tokens.is_none()) continue;
        items.push_back(WorkItem{w.chunk, b, w.decisions[b].tokens, w.timesteps, keys_of(w.chunk)});
        inputs.push_back(w.embedded);
      }
    }
    const std::vector<at::Tensor> fresh = forward(row, items, inputs);
    std::optional<OpScope> scope(std::in_place, "residuals");
    size_t next = 0;
    for (int b = 0; b < settings_.branches(); ++b)
      for (ChunkWork& w : work) {
        const Decision& decision = w.decisions[b];
        const at::Tensor rows = decision.tokens.is_none() ? at::Tensor() : fresh[next++];
        if (!w.store || (!w.update && !rows.defined())) {
          w.hidden[b] = rows;
          continue;
        }
        at::Tensor moved;
        w.hidden[b] = residuals_.merge(w.chunk, b, w.embedded, decision, rows, w.context.frames, w.context.plane,
                                       solver_.sigmas()[static_cast<size_t>(w.context.step)], policy_.wants_change() ? &moved : nullptr);
        if (moved.defined() && w.keep) policy_.changed(w.context, b, moved.view({w.context.frames, w.context.plane}));
      }
    scope.reset();
    std::vector<int> updated;
    std::vector<GuidedChunk> velocities;
    for (const ChunkWork& w : work) {
      if (!w.keep) continue;
      if (hooks_.on_hidden)
        for (int b = 0; b < settings_.branches(); ++b) hooks_.on_hidden(w.context, b, w.hidden[b], w.embedded);
      scope.emplace("policy observes");
      for (int b = 0; b < settings_.branches(); ++b)
        policy_.observe(w.context, b, w.hidden[b].view({w.context.frames, w.context.plane, -1}));
      scope.reset();
      if (!w.update) continue;
      updated.push_back(w.chunk);
      velocities.push_back(guided(w));
    }
    advance(row, updated, velocities);
  }

  std::vector<at::Tensor> forward(int row, const std::vector<WorkItem>& items, const std::vector<at::Tensor>& inputs) {
    for (const WorkItem& item : items) kv_.grow(item.keys.end);
    kv_.on_queries = nullptr;
    if (compressor_ && compressor_->wants_queries())
      kv_.on_queries = [&](int64_t layer, int branch, const at::Tensor& q) { compressor_->queries(kv_, layer, branch, q); };
    std::vector<at::Tensor> fresh;
    if (!items.empty()) fresh = backbone_.forward(items, inputs, kv_);
    const int64_t held = kv_.bytes();
    stats_.kv_bytes = std::max(stats_.kv_bytes, held);
    stats_.kv_row_bytes += static_cast<double>(held);
    ++stats_.kv_rows;
    if (compressor_) compressor_->finish(kv_, finished_chunks(row));
    return fresh;
  }

  GuidedChunk guided(const ChunkWork& w) {
    const OpScope scope("head");
    GuidedChunk chunk{&solver_state_[w.chunk], backbone_.head(w.hidden[0], w.timesteps), {}, chunk_latents(latents_, w.chunk)};
    if (settings_.branches() == 2) chunk.uncond = backbone_.head(w.hidden[1], w.timesteps);
    return chunk;
  }

  void advance(int row, const std::vector<int>& chunks, const std::vector<GuidedChunk>& guided) {
    const OpScope scope("guidance and solver");
    solver_.advance(guided, settings_.guidance);
    for (size_t i = 0; i < guided.size(); ++i) {
      UniPcState& state = *guided[i].state;
      // Once a chunk is enough to catch broken weights, and cheap enough to do always.
      if (state.step == 1 && !at::isfinite(state.m1).all().item<bool>())
        fail(ExitCode::numerical,
             "the model's output is not finite in row {} of window {} (chunk {}); check the checkpoint, or run with --dtype fp32",
             row + 1, window_ + 1, chunks[i] + 1);
      if (settings_.overwritten_first_sample && state.step == 1) state.last = guided[i].sample.clone();
    }
  }

  void record(int row, const ChunkWork& w, int branch) {
    const Decision& decision = w.decisions[branch];
    const int64_t tokens = w.context.frames * w.context.plane;
    const int64_t recomputed = decision.tokens.count(w.context.frames, w.context.plane);
    const KeyRange keys = keys_of(w.chunk);
    WorkCount& count = stats_.by_chunk[{window_, w.chunk, decision.phase}];
    // With compression, of the keys that are held: the mean over the layers.
    const int64_t count_keys = keys.end - std::max<int64_t>(keys.begin, std::llround(kv_.mean_first(branch)));
    const double full = backbone_.flops(tokens, count_keys);
    const double spent = recomputed == 0 ? 0 : backbone_.flops(recomputed, count_keys);
    const int64_t rest = tokens - recomputed;
    const bool predicted = decision.rest == Rest::predict;
    count += {recomputed, predicted ? 0 : rest, predicted ? rest : 0, spent, full - spent};
    if (hooks_.on_decision)
      hooks_.on_decision({window_, row, w.chunk, branch, w.context.step, decision, recomputed, tokens, w.update, w.context.frames,
                          w.context.plane});
  }

  const Backbone& backbone_;
  CachePolicy& policy_;
  const Schedule& schedule_;
  const UniPc& solver_;
  const DenoiseSettings& settings_;
  const int window_;
  at::Tensor latents_;
  NoiseSource& noise_;
  RunStats& stats_;
  const DenoiseHooks& hooks_;
  std::unique_ptr<KvCompressor> compressor_;
  KvCache kv_;
  ResidualCache residuals_;
  std::vector<UniPcState> solver_state_;
  at::Tensor noised_prefix_;  // only read in the row that made it: no part of the state
  int first_row_ = 0;
  int64_t prefix_frames_ = 0;
};

}  // namespace

int64_t most_kv_tokens(const KvChoice& kv, const WindowGeometry& g, const Schedule& schedule) {
  if (!kv.compresses()) return g.tokens();
  int64_t most = 0;
  for (int row = 0; row < schedule.rows(); ++row) {
    int64_t finished = 0, active = 0, whole = 0;
    for (int c = 0; c < schedule.chunks(); ++c) {
      whole = std::max(whole, g.chunk_tokens(c));
      if (schedule.last_row(c) < row)
        finished += g.chunk_tokens(c);
      else if (!schedule.row(row)[c].idle)
        active += g.chunk_tokens(c);
    }
    most = std::max(most, kv.kept_tokens(finished, whole) + active);
  }
  return most;
}

StateLayout state_layout(const Backbone& backbone, const at::Tensor& latents, int branches) {
  const WindowGeometry& g = backbone.geometry();
  const at::Tensor embedded = backbone.embed(latents);
  const StateLayout::Rows rows{embedded.size(1), embedded.scalar_type()};
  StateLayout layout{{}, g.plane, branches, rows, rows, rows, latents.device()};
  for (const auto& chunk : g.chunks) layout.frames.push_back(chunk.frames);
  return layout;
}

at::Tensor denoise_window(const Backbone& backbone, CachePolicy& policy, const Schedule& schedule, const UniPc& solver,
                          const DenoiseSettings& settings, int window, at::Tensor latents, NoiseSource& noise,
                          RunStats& stats, const DenoiseHooks& hooks, const State* resume) {
  WindowLoop loop(backbone, policy, schedule, solver, settings, window, std::move(latents), noise, stats, hooks);
  if (resume) loop.load(*resume);
  return loop.run();
}

}  // namespace longtake
