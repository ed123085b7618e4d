#include "models/weights/checkpoint.h"

#include <ATen/ops/full.h>

#include "base/error.h"
#include "models/weights/safetensors.h"
#include "tests/catch.h"
#include "tests/models/weights_files.h"

using namespace longtake;
using Catch::Matchers::ContainsSubstring;
using test::TempFolder;
using test::write_file;

namespace {

void save(const std::filesystem::path& path, const std::string& name, float value) {
  save_safetensors(path, {{name, at::full({2}, value)}});
}

float value_of(const Checkpoint& checkpoint, const std::string& name) {
  return checkpoint.tensor(name)[1].item<float>();
}

}  // namespace

TEST_CASE("checkpoint: one file, or every .safetensors of a folder") {
  const TempFolder folder;
  save(folder / "model-00002-of-00002.safetensors", "b", 2);
  save(folder / "model-00001-of-00002.safetensors", "a", 1);
  write_file(folder / "config.json", "{}");
  write_file(folder / "._model.safetensors", "a hidden file is not opened");

  const Checkpoint one = Checkpoint::open(folder / "model-00001-of-00002.safetensors");
  CHECK(one.names() == std::vector<std::string>{"a"});
  const Checkpoint all = Checkpoint::open(folder.path());
  CHECK(all.names() == std::vector<std::string>{"a", "b"});
  CHECK(all.contains("a"));
  CHECK_FALSE(all.contains("c"));
  CHECK(value_of(all, "a") == 1);
  CHECK(value_of(all, "b") == 2);
  CHECK(all.bytes() == 16);
  CHECK(all.info("b").shape == std::vector<int64_t>{2});
  CHECK(all.file("b").filename() == "model-00002-of-00002.safetensors");
  CHECK_THROWS_WITH(all.tensor("c"), ContainsSubstring("holds no tensor 'c'"));

  save(folder / "model-00003.safetensors", "a", 3);
  CHECK_THROWS_WITH(Checkpoint::open(folder.path()), ContainsSubstring("'a' is both in"));
}

TEST_CASE("checkpoint: an index decides which shard holds what") {
  const TempFolder folder;
  const auto index = folder / "model.safetensors.index.json";
  save(folder / "one.safetensors", "a", 1);
  save(folder / "two.safetensors", "a", 2);
  save(folder / "stray.safetensors", "a", 3);
  save(folder / "three.safetensors", "b", 4);
  write_file(index, R"({"metadata":{"total_size":16},"weight_map":{"a":"two.safetensors","b":"three.safetensors"}})");
  for (const auto& path : {folder.path(), index}) {
    const Checkpoint checkpoint = Checkpoint::open(path);
    CHECK(checkpoint.names() == std::vector<std::string>{"a", "b"});
    CHECK(value_of(checkpoint, "a") == 2);
    CHECK(value_of(checkpoint, "b") == 4);
  }

  const auto refused = [&](const std::string& json, const std::string& message) {
    write_file(index, json);
    INFO(json);
    CHECK_THROWS_AS(Checkpoint::open(folder.path()), Error);
    CHECK_THROWS_WITH(Checkpoint::open(folder.path()), ContainsSubstring(message));
  };
  refused(R"({"weight_map":{"a":"gone.safetensors"}})", "the shard 'gone.safetensors' is missing");
  refused(R"({"weight_map":{"b":"two.safetensors"}})", "says that 'b' is in 'two.safetensors'");
  refused(R"({"weight_map":{"a":"../two.safetensors"}})", "outside its folder");
  refused(R"({"weight_map":{"a":"sub/../../two.safetensors"}})", "outside its folder");
  refused(R"({"weight_map":{"a":"/etc/passwd"}})", "outside its folder");
  refused(R"({"weight_map":{"a":""}})", "outside its folder");
  refused(R"({"weight_map":{"a":7}})", "no file name for 'a'");
  refused(R"({"weight_map":{"a":"two.safetensors","a":"one.safetensors"}})", "names 'a' twice");
  refused(R"({"weight_map":{}})", "no 'weight_map'");
  refused(R"({"weight_map":[]})", "no 'weight_map'");
  refused("{}", "no 'weight_map'");
  refused("not json", "is not JSON");

  write_file(folder / "model.fp16.safetensors.index.json", "{}");
  CHECK_THROWS_WITH(Checkpoint::open(folder.path()), ContainsSubstring("holds 2 models"));
}

TEST_CASE("checkpoint: shards of torch.save files with an index") {
  const TempFolder folder;
  const auto shard = std::filesystem::path(LONGTAKE_SOURCE_DIR) / "tests/data/pickle/plain.pth";
  std::filesystem::copy_file(shard, folder / "pytorch_model-00001-of-00001.bin");
  const std::string name = Checkpoint::open(shard).names().front();
  const auto index = folder / "pytorch_model.bin.index.json";
  write_file(index, fmt::format(R"({{"weight_map":{{"{}":"pytorch_model-00001-of-00001.bin"}}}})", name));
  for (const auto& path : {folder.path(), index}) {
    CHECK(Checkpoint::open(path).names() == std::vector<std::string>{name});
  }
  // The same model as safetensors counts.
  save(folder / "model.safetensors", "a", 1);
  CHECK(Checkpoint::open(folder.path()).names() == std::vector<std::string>{"a"});
}

TEST_CASE("checkpoint: what is no model is said so in one sentence") {
  const TempFolder folder;
  CHECK_THROWS_WITH(Checkpoint::open(folder.path()),
                    ContainsSubstring("looked for *.safetensors.index.json and *.safetensors"));
  std::filesystem::create_directory(folder / "transformer");
  write_file(folder / "Wan2.1_VAE.pth", "");
  CHECK_THROWS_WITH(Checkpoint::open(folder.path()),
                    ContainsSubstring("give the path of one of Wan2.1_VAE.pth, transformer"));
  CHECK_THROWS_WITH(Checkpoint::open(folder / "absent"), ContainsSubstring("does not exist"));
  write_file(folder / "weights.txt", "");
  CHECK_THROWS_WITH(Checkpoint::open(folder / "weights.txt"), ContainsSubstring("expected a .safetensors file"));
}
