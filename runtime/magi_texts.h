// The texts of all chunks of a MAGI-1 video, ready for cross attention. Spec: magi1.md 3.7.
#pragma once

#include <map>
#include <vector>

#include "models/magi/backbone.h"
#include "models/magi/text_rows.h"
#include "runtime/magi_schedule.h"

namespace longtake::magi {

class VideoTexts {
 public:
  // captions: of each prompt the text encoder's rows that count, [L, caption_dim] float32. prompt_of: which prompt each
  // chunk from size.first on follows; empty for the first prompt throughout. tokens: the special rows that `settings`
  // puts in front of a caption; may be empty where it asks for none. Keys and values are computed here, once for equal
  // rows.
  VideoTexts(const Transformer& transformer, const std::vector<at::Tensor>& captions, const std::vector<int>& prompt_of,
             const SpecialTokens& tokens, const TextSettings& settings, const VideoSize& size);
  VideoTexts(const VideoTexts&) = delete;  // branches() and none() refer to it
  VideoTexts& operator=(const VideoTexts&) = delete;

  // What a MagiBackbone takes (magi_step.h).
  std::vector<Branch> branches(bool own_keys = false) const;
  const TextKv& none() const { return none_; }

 private:
  bool distilled_;
  std::map<int, TextKv> texts_;          // by the first chunk with these rows, from size.first on
  std::vector<const TextKv*> of_chunk_;  // of each chunk of the video
  TextKv none_;
};

}  // namespace longtake::magi
