#include "runtime/run_loop.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <unordered_map>

#include "base/error.h"
#include "runtime/run_folder.h"
#include "runtime/stopwatch.h"
#include "runtime/work_queue.h"

namespace longtake {
namespace {

constexpr double kStateBytesPerSecond = 2e8;  // of a disk before the first state is measured

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) { return std::chrono::duration<double>(to - from).count(); }

struct Stopped {};

// Where frames are decoded beside denoising: a GPU then runs what either of them launches as it comes, not one behind the other. Always the same
// stream of a device, because LibTorch keeps freed memory for the stream that it was allocated on.
std::optional<c10::Stream> decoding_stream(const at::Device& device) {
  if (!device.is_cuda()) return std::nullopt;
  static std::unordered_map<at::Device, c10::Stream> streams;
  auto found = streams.find(device);
  if (found == streams.end()) found = streams.emplace(device, c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device)).first;
  return found->second;
}

// What the folder holds of a window; `before` as for RunFolder::prefix. Returns whether that is all decoded: `stop` is asked before each chunk.
bool decode_window(WindowDecoder& decoder, const RunLayout& layout, const at::Device& device, const RunFolder& folder, int w,
                   const at::Tensor& before, const std::function<bool()>& stop = {}) {
  const at::Tensor prefix = folder.prefix(w, before);
  decoder.begin_window(w, prefix.defined() ? prefix.to(device) : prefix);
  const int first = layout.windows[w].given, end = first + folder.chunks(w);
  int c = first;
  for (; c < end && !(stop && stop()); ++c) decoder.decode(w, c, folder.chunk(w, c).to(device));
  decoder.end_window();
  return c == end;
}

class WindowRun {
 public:
  WindowRun(WindowMaker& maker, WindowDecoder& decoder, const RunLayout& layout, const RunSettings& settings, CachePolicy& policy,
            NoiseSource& noise, const at::Device& device, const GenerateHooks& hooks, RunFolder* folder)
      : maker_(maker), decoder_(decoder), layout_(layout), settings_(settings), policy_(policy), noise_(noise), device_(device), hooks_(hooks),
        folder_(folder), decoding_(settings.decode_ahead ? decoding_stream(device) : std::nullopt),
        queue_(settings.decode_ahead ? settings.decode_queue : 0) {}

  RunStats run() {
    try {
      const int first = folder_ ? take_up() : 0;
      for (int w = first; w < windows(); ++w) {
        if (w > first) stop_if_asked();
        run_window(w, w == first && folder_ ? folder_->state(w) : std::nullopt);
      }
      wait_for_frames();
    } catch (const Stopped&) {
      decode_rest();
      queue_.wait();
      fail(ExitCode::interrupted, "interrupted with {} of {} chunks finished", finished_, layout_.chunks());
    }
    stats_.decode_seconds = decoder_.seconds();
    return stats_;
  }

 private:
  int windows() const { return static_cast<int>(layout_.windows.size()); }

  int chunks_of(int w) const { return static_cast<int>(layout_.windows[w].chunks.size()) - layout_.windows[w].given; }

  void stop_if_asked() const {
    if (hooks_.should_stop && hooks_.should_stop()) throw Stopped{};
  }

  // Until all that was posted is decoded. Throws Stopped where that was cut short.
  void wait_for_frames() {
    queue_.wait();
    if (cut_short_) throw Stopped{};
  }

  // The windows that the folder holds are decoded again; returns the first one that it does not.
  int take_up() {
    const RunProgressMade made = folder_->attach(layout_);
    if (made.windows == 0) return 0;
    for (int w = 0; w < made.windows; ++w) {
      previous_ = folder_->latents(w, previous_).to(device_);
      finished_ += chunks_of(w);
      if (hooks_.on_latents) hooks_.on_latents(w, previous_);
    }
    // One task, so that a long video does not fill the queue: denoising goes on at once.
    post([this, windows = made.windows] {
      at::Tensor before;
      for (int w = 0; w < windows && !cut_short_; ++w) {
        cut_short_ = !decode_window(decoder_, layout_, device_, *folder_, w, before, hooks_.should_stop);
        before = folder_->latents(w, before);
      }
    });
    const State state = folder_->window(made.windows - 1);
    stats_.load(state);
    if (made.windows < windows()) maker_.take_up(made.windows, previous_, state);
    state.check_all_read();
    return made.windows;
  }

  at::Tensor take_over(int w) {
    const RunLayout::Window& window = layout_.windows[w];
    if (window.prefix == 0) return {};
    if (window.carried) return previous_.narrow(1, previous_.size(1) - layout_.overlap, window.prefix);
    if (folder_ && folder_->holds_prefix(w)) return folder_->prefix(w, {}).to(device_);
    wait_for_frames();
    at::Tensor prefix;
    {
      const Stopwatch watch(stats_.encode_seconds);
      prefix = maker_.encode_prefix(w);
    }
    keep([&] { folder_->save_prefix(w, prefix); });
    return prefix;
  }

  // Encoded anew by a resumed run: the same picture gives the same bits.
  at::Tensor end_picture(int w) {
    if (!layout_.windows[w].end_picture) return {};
    wait_for_frames();
    const Stopwatch watch(stats_.encode_seconds);
    return maker_.encode_end_picture(w);
  }

  void run_window(int w, const std::optional<State>& resume) {
    if (hooks_.on_window_start) hooks_.on_window_start(w);
    const GivenLatents given{take_over(w), end_picture(w)};
    decode_soon([this, w, prefix = handed_over(given.prefix)] { decoder_.begin_window(w, prefix); });
    if (resume) take_up_chunks(w, *resume);
    DenoiseHooks hooks = hooks_.denoise;
    hooks.on_row_end = [&](const RowEnd& end) {
      if (hooks_.denoise.on_row_end) hooks_.denoise.on_row_end(end);
      row_ended(w, end);
    };
    row_began_ = Clock::now();
    finish_window(w, maker_.denoise(w, given, stats_, hooks, resume ? &*resume : nullptr));
  }

  // The chunks that were finished when the state was written.
  void take_up_chunks(int w, const State& state) {
    const int64_t row = state.integers("row", 1)[0];
    const auto& chunks = layout_.windows[w].chunks;
    const int first = layout_.windows[w].given;
    int end = first;
    while (end < static_cast<int>(chunks.size()) && chunks[end].last_row <= row) ++end;
    finished_ += end - first;
    decodes_soon_ = settings_.decode_ahead && !waits_for_window(static_cast<int>(row), layout_.windows[w].rows);
    decode_soon([this, w, first, end] {  // one task: see take_up()
      for (int c = first; c < end; ++c) decoder_.decode(w, c, folder_->chunk(w, c).to(device_));
    });
  }

  void row_ended(int w, const RowEnd& end) {
    const auto now = Clock::now();
    stats_.denoise_seconds += seconds_between(row_began_, now);
    row_began_ = now;
    decodes_soon_ = settings_.decode_ahead && !waits_for_window(end.row, end.rows);
    for (const int c : end.finished) finish_chunk(w, c, end.latents);
    const bool last = end.row + 1 == end.rows;
    const bool stop = !last && hooks_.should_stop && hooks_.should_stop();
    if (folder_ && !last && (stop || !end.finished.empty() || end.row == 0)) checkpoint(w, end, stop);
    if (stop) throw Stopped{};
  }

  void finish_chunk(int w, int c, const at::Tensor& all) {
    const RunLayout::Chunk& chunk = layout_.windows[w].chunks.at(c);
    const at::Tensor latents = all.narrow(1, chunk.first, chunk.frames).clone();
    if (!at::isfinite(latents).all().item<bool>())
      fail(ExitCode::numerical, "chunk {} of window {} ended in values that are not finite; run with --dtype fp32, or report the settings",
           c + 1, w + 1);
    keep([&] { folder_->save_chunk(w, c, latents); });
    ++finished_;
    if (hooks_.on_chunk) hooks_.on_chunk(w, c, latents);
    decode_soon([this, w, c, latents = handed_over(latents)] { decoder_.decode(w, c, latents); });
  }

  // Writes the state where it fits and is worth its time, or the run stops here; says once where it does not fit.
  void checkpoint(int w, const RowEnd& end, bool stop) {
    const State state = end.state();
    if (state.bytes() > settings_.checkpoint_bytes) {
      if (!told_size_ && hooks_.on_note)
        hooks_.on_note(fmt::format("the state within a window takes {} MB and --checkpoint-budget allows {}: a resume goes on from the last one "
                                   "that fitted, or starts the window again that it finds unfinished",
                                   state.bytes() >> 20, settings_.checkpoint_bytes >> 20));
      told_size_ = true;  // it may fit again: K/V and residuals come and go
      return;
    }
    const double expected = state_seconds_.value_or(static_cast<double>(state.bytes()) / kStateBytesPerSecond);
    const bool worth = !end.finished.empty() && settings_.checkpoint_share * seconds_between(state_written_, Clock::now()) >= expected;
    if (!stop && !worth) return;
    const auto start = Clock::now();
    keep([&] { folder_->save_state(w, end.row, state); });
    state_written_ = Clock::now();
    state_seconds_ = seconds_between(start, state_written_);
  }

  // Writes to the folder where there is one.
  void keep(const std::function<void()>& write) {
    if (!folder_) return;
    const Stopwatch watch(stats_.checkpoint_seconds);
    write();
  }

  // Off the path of denoising, or when the window is done.
  void decode_soon(std::function<void()> task) {
    if (decodes_soon_)
      post(std::move(task));
    else
      waiting_.push_back(std::move(task));
  }

  // On the decoder's stream, where there is one: behind what is launched by now. Whoever waits for the queue finds the work done, and memory of
  // that stream is written again behind what read it, because the next task is launched behind that.
  void post(std::function<void()> decode) {
    auto task = [this, decode = std::move(decode)] {
      if (!cut_short_) decode();
    };
    if (!decoding_) return queue_.post(std::move(task));
    const auto launched = std::make_shared<c10::Event>(device_.type());
    launched->record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
    queue_.post([this, launched, task = std::move(task)] {
      const c10::StreamGuard guard(*decoding_);
      launched->block(*decoding_);
      task();
      decoding_->synchronize();
    });
  }

  // Latents that the decoder reads, and may keep for longer than its task: their memory is not written again before it has read them.
  at::Tensor handed_over(const at::Tensor& latents) const {
    if (decoding_ && latents.defined())
      c10::impl::VirtualGuardImpl(device_.type()).recordDataPtrOnStream(latents.storage().data_ptr(), *decoding_);
    return latents;
  }

  void decode_rest() {
    for (auto& task : std::exchange(waiting_, {})) post(std::move(task));
    decodes_soon_ = settings_.decode_ahead;
    post([this] { decoder_.end_window(); });
  }

  void finish_window(int w, const at::Tensor& latents) {
    keep([&] {
      State state;
      stats_.save(state);
      if (w + 1 < windows()) {
        policy_.begin_window(w + 1);  // what a policy forgets between windows need not be written
        policy_.save(state);
        noise_.save(state);
      }
      folder_->save_window(w, state);
    });
    if (hooks_.on_latents) hooks_.on_latents(w, latents);
    decode_rest();
    previous_ = latents;
  }

  WindowMaker& maker_;
  WindowDecoder& decoder_;
  const RunLayout& layout_;
  const RunSettings& settings_;
  CachePolicy& policy_;
  NoiseSource& noise_;
  const at::Device device_;
  const GenerateHooks& hooks_;
  RunFolder* folder_;
  RunStats stats_;
  at::Tensor previous_;                         // latents of the window before
  std::vector<std::function<void()>> waiting_;  // of this window, not decoded yet
  bool decodes_soon_ = settings_.decode_ahead;
  bool cut_short_ = false;  // of the queue: what was taken up is not all decoded, and nothing may go behind it
  int finished_ = 0;        // chunks of the run
  bool told_size_ = false;
  Clock::time_point row_began_, state_written_ = Clock::now();
  std::optional<double> state_seconds_;        // that the last state took
  const std::optional<c10::Stream> decoding_;  // of the queue's thread, on a GPU
  WorkQueue queue_;                            // last: it stops before what its tasks use is gone
};

}  // namespace

RunStats run_windows(WindowMaker& maker, WindowDecoder& decoder, const RunLayout& layout, const RunSettings& settings, CachePolicy& policy,
                     NoiseSource& noise, const at::Device& device, const GenerateHooks& hooks, RunFolder* folder) {
  return WindowRun(maker, decoder, layout, settings, policy, noise, device, hooks, folder).run();
}

void decode_kept(WindowDecoder& decoder, const RunLayout& layout, const at::Device& device, const GenerateHooks& hooks, const RunFolder& folder) {
  at::Tensor before;
  for (int w = 0; w < static_cast<int>(layout.windows.size()); ++w) {
    if (folder.chunks(w) == 0) return;
    if (hooks.on_window_start) hooks.on_window_start(w);
    decode_window(decoder, layout, device, folder, w, before);
    before = folder.latents(w, before);
    if (hooks.on_latents && folder.holds_window(w)) hooks.on_latents(w, before);
  }
}

}  // namespace longtake
