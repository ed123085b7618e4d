#include "tools/train/tokenizer.h"

#include <bit>
#include <fstream>
#include <set>

#include "base/error.h"
#include "models/demo/world.h"

namespace longtake::train {
namespace {

constexpr size_t kSpecials = 4;
constexpr const char* kSpace = "\xe2\x96\x81";  // U+2581

// Protocol buffer wire format: varints (0), length-delimited (2) and 32-bit (5) fields.
std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
  return out;
}
std::string number_field(int field, uint64_t value) { return varint(static_cast<uint64_t>(field) << 3) + varint(value); }
std::string text_field(int field, const std::string& text) {
  return varint(static_cast<uint64_t>(field) << 3 | 2) + varint(text.size()) + text;
}
std::string float_field(int field, float value) {
  std::string out = varint(static_cast<uint64_t>(field) << 3 | 5);
  for (uint32_t bits = std::bit_cast<uint32_t>(value), i = 0; i < 4; ++i) out.push_back(static_cast<char>(bits >> (8 * i)));
  return out;
}

}  // namespace

std::vector<std::string> demo_vocabulary() {
  std::set<std::string> words;
  for (const demo::Scene& scene : demo::all_scenes()) {
    for (int style = 0; style < demo::kCaptionStyles; ++style) {
      std::string word;
      for (const char c : demo::caption(scene, style) + " ") {
        if (c >= 'a' && c <= 'z') {
          word.push_back(c);
        } else {
          if (!word.empty()) words.insert(kSpace + word);
          word.clear();
        }
      }
    }
  }
  std::vector<std::string> list = {"<pad>", "</s>", "<s>", "<unk>"};
  list.insert(list.end(), words.begin(), words.end());
  for (const char* capital : {"A", "An", "Over"}) list.push_back(std::string(kSpace) + capital);
  list.push_back(kSpace);
  for (char c = '!'; c <= '~'; ++c) list.emplace_back(1, c);
  return list;
}

void write_tokenizer(const std::filesystem::path& path) {
  const std::vector<std::string> vocabulary = demo_vocabulary();
  std::string model;
  for (size_t id = 0; id < vocabulary.size(); ++id) {
    const bool unknown = id == 3, special = id < kSpecials;
    const bool character = vocabulary[id].size() == 1 || vocabulary[id] == kSpace;
    const float score = special ? 0.0f : character ? -12.0f : -5.0f;
    model += text_field(1, text_field(1, vocabulary[id]) + float_field(2, score) + number_field(3, unknown ? 2 : special ? 3 : 1));
  }
  // model_type unigram, vocab_size, ids and names of the special pieces.
  std::string trainer = number_field(3, 1) + number_field(4, vocabulary.size());
  trainer += number_field(40, 3) + number_field(41, 2) + number_field(42, 1) + number_field(43, 0);
  trainer += text_field(45, "<unk>") + text_field(46, "<s>") + text_field(47, "</s>") + text_field(48, "<pad>");
  model += text_field(2, trainer);
  // No character map; a leading space is added, runs of spaces collapse, spaces become U+2581.
  model += text_field(3, text_field(1, "identity") + number_field(3, 1) + number_field(4, 1) + number_field(5, 1));
  std::ofstream out(path, std::ios::binary);
  out << model;
  if (!out.flush()) fail_file("{} cannot be written", path.string());
}

}  // namespace longtake::train
