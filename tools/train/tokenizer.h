// The demo model's SentencePiece model: a unigram vocabulary of the captions' words and, for everything else, of single characters.
//
// UMT5's conventions: <pad> 0, </s> 1, <s> 2, <unk> 3; words carry the mark of their leading space. Every word has the same score,
// a character a far lower one, so that known words stay whole. The file is a protocol buffer of sentencepiece_model.proto
// (fields pieces, trainer_spec, normalizer_spec), written by hand as it is small and must not vary.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace longtake::train {

// The vocabulary in the order of its ids.
std::vector<std::string> demo_vocabulary();

void write_tokenizer(const std::filesystem::path& path);

}  // namespace longtake::train
