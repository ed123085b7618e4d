#include "video_io/vbench/check_names.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/utf8.h"
#include "models/umt5/unicode.h"
#include "runtime/batch_names.h"
#include "video_io/vbench/protocol.h"

namespace longtake {
namespace {

namespace fs = std::filesystem;

const std::set<std::string>& evaluator_leftovers() {
  static const std::set<std::string> names = {"split_clip", "split_scene", "temporal_filtered_cilps", "filtered_videos",
                                              "subject_consistency_cat_firstframes_videos", "background_consistency_cat_firstframes_videos"};
  return names;
}

// Letters and digits only, in lower case: what most ways of spelling a file name leave alone.
std::string loose(const std::string& text) {
  std::string out;
  for (const char c : is_utf8(text) ? folded_name(text) : text)
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c & 0x80)) out += c;
  return out;
}

struct Entry {
  std::string name;
  bool folder = false;
};

// In the order of the directory, as os.listdir gives it.
std::vector<Entry> entries_of(const fs::path& folder) {
  std::vector<Entry> entries;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) entries.push_back({entry.path().filename().string(), entry.is_directory(error)});
  if (error) fail_file("{}: cannot be read ({})", folder.string(), error.message());
  return entries;
}

constexpr size_t kLongStart = 40;  // bytes of loose() by which a longer prompt is known

class NameCheck {
 public:
  NameCheck(const VbenchCheckRequest& request, VbenchCheckReport& report) : request_(request), report_(report) {
    for (const VbenchPrompt& prompt : request.prompts) {
      suites_of_[prompt.text].insert(prompt.suite);
      const std::string key = prompt.long_text == prompt.text ? "" : loose(prompt.long_text);
      if (key.size() >= kLongStart) by_long_.emplace(key.substr(0, kLongStart), prompt.text);
    }
  }

  std::vector<FoundVideo> run() {
    std::vector<Entry> entries = entries_of(request_.videos);
    std::set<std::string> suite_folders;
    bool videos_here = false;
    for (const Entry& entry : entries) {
      if (entry.folder && is_suite(entry.name)) suite_folders.insert(entry.name);
      videos_here = videos_here || (!entry.folder && entry.name.ends_with(".mp4"));
    }
    if (!suite_folders.empty()) {
      report_.layout = "suite";
      check_root(entries);
      for (const std::string& suite : request_.suites) {
        if (suite_folders.contains(suite)) {
          check_folder(request_.videos / suite, suite, {suite});
        } else {
          const std::set<std::string> expected = expected_names({suite});
          report_.expected += static_cast<int>(expected.size());
          report_.suites.push_back({suite, static_cast<int>(expected.size()), 0, static_cast<int>(expected.size())});
          fault("missing suite", suite, fmt::format("the folder is not there ({} videos)", expected.size()));
        }
      }
      for (const std::string& suite : suite_folders)
        if (std::find(request_.suites.begin(), request_.suites.end(), suite) == request_.suites.end())
          fault("unexpected suite", suite, "this suite was not asked for", false);
    } else if (videos_here) {
      report_.layout = "flat";
      check_folder(request_.videos, "", request_.suites);
    } else {
      report_.layout = "none";
      fault("layout", ".", "neither videos nor folders named after VBench's suites are here");
    }
    return std::move(found_);
  }

 private:
  void fault(std::string kind, std::string place, std::string text, bool error = true) {
    report_.faults.push_back({std::move(kind), std::move(place), std::move(text), error});
  }

  std::set<std::string> expected_names(const std::vector<std::string>& suites) const {
    std::set<std::string> names;
    for (const VbenchPrompt& prompt : request_.prompts)
      if (std::find(suites.begin(), suites.end(), prompt.suite) != suites.end())
        for (int i = 0; i < samples_of(prompt.suite); ++i) names.insert(vbench_name(prompt.text, i) + ".mp4");
    return names;
  }

  int samples_of(const std::string& suite) const { return suite == kFlickering ? request_.flicker_samples : request_.samples; }

  // The folder above the suites: nothing of it is read, but it should hold the suites alone.
  void check_root(const std::vector<Entry>& entries) {
    for (const Entry& entry : entries) {
      if (entry.folder && is_suite(entry.name)) continue;
      const VbenchDimension* dimension = find_dimension(entry.name);
      if (entry.folder && dimension != nullptr)
        fault("borrowed suite", entry.name, fmt::format("{} has no videos of its own: VBench scores it on the folder {}", entry.name, dimension->suite));
      else if (!entry.folder && entry.name.ends_with(".mp4"))
        fault("layout", entry.name, "lies beside the suites' folders, where no dimension looks");
      else
        fault("other file", entry.name, "is no folder of a suite", false);
    }
  }

  // `suite` is empty in a flat folder.
  void check_folder(const fs::path& folder, const std::string& suite, const std::vector<std::string>& suites) {
    const std::string prefix = suite.empty() ? "" : suite + "/";
    const std::set<std::string> expected = expected_names(suites);
    std::set<std::string> present, extras;
    const std::vector<Entry> entries = entries_of(folder);
    for (const Entry& entry : entries) {
      if (!entry.folder && expected.contains(entry.name)) {
        present.insert(entry.name);
        found_.push_back({folder / entry.name, prefix + entry.name, suite});
      } else if (!entry.folder && entry.name.ends_with(".mp4")) {
        extras.insert(entry.name);
      } else {
        check_foreign(entry, prefix);
      }
    }
    if (!entries.empty() && !entries.front().name.ends_with(".mp4"))
      fault("first entry", prefix + printable(entries.front().name),
            "is listed first here: VBench takes its suffix for that of every video, and finds none");
    std::set<std::string> missing;
    for (const std::string& name : expected)
      if (!present.contains(name)) missing.insert(name);
    explain_extras(extras, missing, prefix, suite, suites);
    for (const std::string& name : missing) fault("missing video", prefix + name, "is not there");
    check_case(present, extras, prefix);
    report_.expected += static_cast<int>(expected.size());
    report_.files += static_cast<int>(present.size());
    report_.suites.push_back({suite.empty() ? "(flat)" : suite, static_cast<int>(expected.size()), static_cast<int>(present.size()),
                              static_cast<int>(expected.size() - present.size())});
  }

  void check_foreign(const Entry& entry, const std::string& prefix) {
    const std::string place = prefix + printable(entry.name);
    const std::string folded = is_utf8(entry.name) ? folded_name(entry.name) : entry.name;
    if (entry.folder && evaluator_leftovers().contains(entry.name))
      fault("evaluator's leftover", place, "VBench-Long made this folder: it would take stale clips from it, and can take its name for the suffix of videos");
    else if (entry.folder)
      fault("other file", place, "is a folder, which VBench can take for a video");
    else if (folded.ends_with(".mp4"))
      fault("suffix", place, "the suffix must be .mp4 in lower case: dynamic_degree and motion_smoothness take anything else for a folder of pictures");
    else if (folded.ends_with(".gif") || folded.ends_with(".avi") || folded.ends_with(".mov") || folded.ends_with(".webm") || folded.ends_with(".mkv"))
      fault("suffix", place, "is no .mp4: dynamic_degree and motion_smoothness take anything else for a folder of pictures");
    else
      fault("other file", place, entry.name.starts_with(".") ? "is a hidden file, which VBench lists too" : "is no video; VBench can take its suffix for that of all videos");
  }

  // Why a video with an unexpected name is there; where it stands for a missing one, that one is no longer reported.
  void explain_extras(const std::set<std::string>& extras, std::set<std::string>& missing, const std::string& prefix, const std::string& suite,
                      const std::vector<std::string>& suites) {
    std::map<std::string, std::string> by_loose;
    for (const std::string& name : missing) by_loose.emplace(loose(name), name);
    for (const std::string& name : extras) {
      const std::string place = prefix + printable(name);
      const std::string stem = name.substr(0, name.size() - 4);
      const size_t dash = stem.rfind('-');
      const bool numbered = dash != std::string::npos && dash + 1 < stem.size() && stem.size() - dash < 8 &&
                            std::all_of(stem.begin() + static_cast<std::ptrdiff_t>(dash) + 1, stem.end(), [](char c) { return c >= '0' && c <= '9'; });
      const std::string prompt = numbered ? stem.substr(0, dash) : stem;
      const auto known = suites_of_.find(prompt);
      const auto similar = by_loose.find(loose(name));
      if (similar != by_loose.end() && missing.contains(similar->second)) {
        missing.erase(similar->second);
        const bool composed = is_utf8(name) && encode_utf8(compose_canonically(decode_utf8(name))) == similar->second;
        const bool same_case = is_utf8(name) && folded_name(name) == folded_name(similar->second);
        fault(composed ? "not NFC" : same_case ? "letter case" : "spelling", place,
              fmt::format("must be called \"{}\"{}", similar->second, composed ? " with composed accents (NFC), byte for byte" : ""));
      } else if (known != suites_of_.end() && numbered && (suite.empty() || known->second.contains(suite))) {
        const bool asked = std::any_of(suites.begin(), suites.end(), [&](const std::string& s) { return known->second.contains(s); });
        if (!asked)
          fault("unexpected suite", place, fmt::format("its prompt belongs to {}, which was not asked for", *known->second.begin()), false);
        else
          fault("extra sample", place, fmt::format("is a sample beyond the {} expected{}", samples_of(*known->second.begin()),
                                                   known->second.contains(std::string(kFlickering)) ? " (25 with --flicker-samples 25)" : ""));
      } else if (known != suites_of_.end() && numbered) {
        fault("wrong suite", place, fmt::format("its prompt belongs to {}", *known->second.begin()));
      } else if (const std::string owner = owner_of_long(prompt); !owner.empty()) {
        fault("long prompt", place, fmt::format("is named after the longer prompt: it must be called \"{}-N.mp4\"", owner));
      } else if (known != suites_of_.end()) {
        fault("no number", place, "must end in -0.mp4 to -4.mp4: one of several samples");
      } else {
        fault("unknown prompt", place, "is no prompt of VBench: VBench-Long stops at it with an error, and counts are wrong");
      }
    }
  }

  // Names are often cut, so the beginning decides.
  std::string owner_of_long(const std::string& text) const {
    const auto owner = by_long_.find(loose(text).substr(0, kLongStart));
    return owner == by_long_.end() ? "" : owner->second;
  }

  void check_case(const std::set<std::string>& present, const std::set<std::string>& extras, const std::string& prefix) {
    std::map<std::string, std::string> folded;
    std::set<std::string> all = present;
    all.insert(extras.begin(), extras.end());
    for (const std::string& name : all) {
      if (!is_utf8(name)) continue;
      const auto [at, is_new] = folded.emplace(folded_name(name), name);
      if (!is_new)
        fault("case collision", prefix + name, fmt::format("and \"{}\" are one file where names ignore case (macOS, Windows, some network drives)", at->second), false);
    }
  }

  const VbenchCheckRequest& request_;
  VbenchCheckReport& report_;
  std::map<std::string, std::set<std::string>> suites_of_;  // by prompt
  std::map<std::string, std::string> by_long_;              // prompts, by the beginning of the longer one
  std::vector<FoundVideo> found_;
};

}  // namespace

std::vector<FoundVideo> check_vbench_names(const VbenchCheckRequest& request, VbenchCheckReport& report) { return NameCheck(request, report).run(); }

}  // namespace longtake
