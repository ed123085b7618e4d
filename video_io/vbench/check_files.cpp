#include "video_io/vbench/check_files.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/utf8.h"
#include "video_io/digest.h"
#include "video_io/vbench/protocol.h"
#include "video_io/vbench/scan.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

constexpr double kMemoryWarning = 4e9;  // bytes of one video's frames, decoded

struct Looked {
  VideoScan scan;
  std::string sha256;  // where it was needed
};

// f(i) for all i below n, in several threads; the first exception is thrown on.
template <class F>
void for_each_index(size_t n, int threads, F f) {
  std::atomic<size_t> next{0};
  std::exception_ptr problem;
  std::mutex guard;
  const auto work = [&] {
    try {
      for (size_t i = next++; i < n; i = next++) f(i);
    } catch (...) {
      const std::lock_guard lock(guard);
      problem = std::current_exception();
      next = n;
    }
  };
  std::vector<std::jthread> pool;
  for (int t = 1; t < threads; ++t) pool.emplace_back(work);
  work();
  pool.clear();
  if (problem) std::rethrow_exception(problem);
}

class FileCheck {
 public:
  FileCheck(const VbenchCheckRequest& request, const std::vector<FoundVideo>& videos, VbenchCheckReport& report)
      : request_(request), videos_(videos), report_(report), looked_(videos.size()) {}

  void run() {
    read_records();
    std::map<uint64_t, int> sizes;
    std::error_code error;
    for (const FoundVideo& video : videos_) ++sizes[fs::file_size(video.path, error)];
    const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    for_each_index(videos_.size(), request_.threads > 0 ? request_.threads : cores, [&](size_t i) {
      std::error_code failed;
      looked_[i].scan = scan_video(videos_[i].path, request_.decode);
      // Files of a size of their own have no twin.
      if (records_.contains(i) || sizes[fs::file_size(videos_[i].path, failed)] > 1) looked_[i].sha256 = sha256_of_file(videos_[i].path);
    });
    for (size_t i = 0; i < videos_.size(); ++i) check_one(videos_[i], looked_[i].scan);
    check_lengths();
    check_twins();
    check_records();
  }

 private:
  void fault(std::string kind, std::string place, std::string text, bool error = true) {
    report_.faults.push_back({std::move(kind), std::move(place), std::move(text), error});
  }

  void read_records() {
    if (!request_.made) return;
    const BatchFolder& folder = request_.made->folder;
    std::error_code error;
    for (size_t i = 0; i < videos_.size(); ++i) {
      const fs::path path = folder.record(videos_[i].place.substr(0, videos_[i].place.size() - 4));
      if (fs::exists(path, error))
        records_.emplace(i, read_record(path));
      else
        fault("no record", videos_[i].place, "nothing in meta/records tells how it was made");
    }
  }

  void check_one(const FoundVideo& video, const VideoScan& scan) {
    if (!scan.error.empty()) return fault("unreadable", video.place, scan.error);
    for (const std::string& message : scan.messages) fault("decoder message", video.place, message);
    if (scan.width % 2 || scan.height % 2) fault("odd size", video.place, fmt::format("{}x{}", scan.width, scan.height));
    if (!scan.integer_rate())
      fault("frame rate", video.place,
            fmt::format("{}/{} frames a second is not a whole number: VBench-Long cuts it to {}", scan.fps_numerator, scan.fps_denominator,
                        static_cast<int>(scan.fps())));
    else if (!scan.constant_rate)
      fault("frame rate", video.place, fmt::format("frames do not all last 1/{} s", scan.fps_numerator));
    if (scan.start > 0) fault("late start", video.place, fmt::format("the first frame is shown at {:.3f} s", scan.start), false);
    const double bytes = 3.0 * scan.width * scan.height * static_cast<double>(scan.frames);
    if (bytes > kMemoryWarning) fault("large video", video.place, fmt::format("takes {:.1f} GB decoded, and VBench-Long decodes it whole", bytes / 1e9), false);
  }

  // All videos of a run are alike; the protocol follows from their length.
  void check_lengths() {
    std::map<std::string, std::vector<size_t>> kinds;
    for (size_t i = 0; i < videos_.size(); ++i) {
      const VideoScan& s = looked_[i].scan;
      if (s.error.empty()) kinds[fmt::format("{} frames of {}x{} at {:.6g} a second", s.frames, s.width, s.height, s.fps())].push_back(i);
    }
    if (kinds.empty()) return;
    const auto usual = std::max_element(kinds.begin(), kinds.end(), [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
    for (const auto& [kind, members] : kinds)
      if (kind != usual->first)
        for (const size_t i : members) fault("unlike the others", videos_[i].place, fmt::format("{}; most have {}", kind, usual->first));
    const VideoScan& scan = looked_[usual->second.front()].scan;
    const VbenchProtocol belongs = protocol_for(scan.seconds());
    const VbenchProtocol meant = request_.protocol.value_or(belongs);
    report_.protocol = name_of(meant);
    if (meant != belongs)
      fault("protocol", ".", fmt::format("videos of {:.2f} s belong to {}", scan.seconds(), belongs == VbenchProtocol::standard ? "VBench (less than 5 s)" : "VBench-Long (5 s or more)"));
    if (meant == VbenchProtocol::long_videos && report_.layout == "flat")
      fault("layout", ".", "VBench-Long cuts clips of one length for all videos of a folder: it needs a folder a suite");
    if (!request_.made) return;
    const GenerateOptions& o = request_.made->plan.options.values();
    const int frames = request_.made->plan.frames();
    if (scan.frames != frames || scan.width != o.size.width || scan.height != o.size.height || scan.fps() != o.fps)
      fault("not as planned", ".", fmt::format("videos have {}; the plan says {} frames of {}x{} at {}", usual->first, frames, o.size.width, o.size.height, o.fps));
  }

  void check_twins() {
    std::map<std::string, size_t> by_digest;
    for (size_t i = 0; i < videos_.size(); ++i) {
      if (looked_[i].sha256.empty()) continue;
      const auto [at, is_new] = by_digest.emplace(looked_[i].sha256, i);
      if (!is_new) fault("same video", videos_[i].place, fmt::format("has the same bytes as \"{}\"", videos_[at->second].place));
    }
  }

  void check_records() {
    std::map<uint64_t, size_t> by_seed;
    for (const auto& [i, record] : records_) {
      if (record.sha256 != looked_[i].sha256) fault("changed", videos_[i].place, "is not the file that its record tells of");
      const auto [at, is_new] = by_seed.emplace(record.seed, i);
      if (!is_new) fault("same seed", videos_[i].place, fmt::format("was made from seed {}, as \"{}\" was", record.seed, videos_[at->second].place));
    }
    if (!request_.made) return;
    for (const BatchJob& job : vbench_jobs(*request_.made)) planned_.emplace(job.name + ".mp4", job.options);
    for (const auto& [i, record] : records_) {
      const auto job = planned_.find(videos_[i].place);
      if (job == planned_.end()) continue;
      if (const std::string difference = settings_difference(record.settings, video_settings(job->second, request_.made->plan.recipe)); !difference.empty())
        fault("other settings", videos_[i].place, difference);
    }
  }

  const VbenchCheckRequest& request_;
  const std::vector<FoundVideo>& videos_;
  VbenchCheckReport& report_;
  std::vector<Looked> looked_;
  std::map<size_t, VideoRecord> records_;  // by index of the video
  std::map<std::string, OptionSet> planned_;
};

}  // namespace

void check_vbench_files(const VbenchCheckRequest& request, const std::vector<FoundVideo>& videos, VbenchCheckReport& report) {
  FileCheck(request, videos, report).run();
}

}  // namespace longtake
