// longtake convert SRC DST: a checkpoint as one .safetensors file, in another dtype or naming.
#include <fmt/format.h>

#include "apps/commands.h"
#include "base/error.h"
#include "models/weights/convert.h"

namespace longtake {

void add_convert(CLI::App& program) {
  struct Arguments {
    std::string source, target, dtype, names;
  };
  auto* verb = program.add_subcommand("convert", "Rewrite a checkpoint as one .safetensors file");
  auto a = std::make_shared<Arguments>();
  verb->add_option("SRC", a->source, "A .safetensors or .pth file, or a folder of shards")->required();
  verb->add_option("DST", a->target, "The .safetensors file to write")->required();
  verb->add_option("--dtype", a->dtype, "float32, bfloat16 or float16; default: as stored")
      ->check(CLI::IsMember({"float32", "fp32", "bfloat16", "bf16", "float16", "fp16"}));
  verb->add_option("--names", a->names, "original or diffusers; default: as stored")->check(CLI::IsMember({"original", "diffusers"}));
  verb->callback([a] {
    ConvertOptions options;
    if (a->dtype == "float32" || a->dtype == "fp32") options.dtype = at::kFloat;
    if (a->dtype == "bfloat16" || a->dtype == "bf16") options.dtype = at::kBFloat16;
    if (a->dtype == "float16" || a->dtype == "fp16") options.dtype = at::kHalf;
    if (a->names == "original") options.layout = Layout::original;
    if (a->names == "diffusers") options.layout = Layout::diffusers;
    const ConvertSummary summary = convert_checkpoint(Checkpoint::open(a->source), a->target, options);
    fmt::print("{}: {} tensors, {:.1f} MB read, {:.1f} MB written\n", a->target, summary.tensors,
               static_cast<double>(summary.bytes_read) / 1e6, static_cast<double>(summary.bytes_written) / 1e6);
  });
}

}  // namespace longtake
