#include "models/magi/config.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/strict_json.h"
#include "base/suggest.h"

namespace longtake::magi {
namespace {

using Json = nlohmann::json;

// One section. Each field is taken once; `finish` refuses those that nobody asked for.
class Section {
 public:
  Section(const Json& file, const std::string& name, const std::string& what) : what_(what), name_(name) {
    const auto found = file.find(name);
    if (found == file.end()) fail_file("{} lacks the section '{}'; is this the config of a MAGI-1 model?", what, name);
    if (!found->is_object()) fail_file("{}: '{}' must be an object, found a JSON {}", what, name, found->type_name());
    fields_ = &*found;
  }

  int64_t integer(const std::string& field, int64_t low, int64_t high) {
    const Json& value = take(field);
    // Larger than the type: nlohmann keeps those as unsigned or as a double.
    if (!value.is_number_integer()) refuse(field, "an integer", value);
    return in_range<int64_t>(
        field, value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX ? INT64_MAX : value.get<int64_t>(), low,
        high);
  }
  double number(const std::string& field, double low, double high) { return number(field, take(field), low, high); }
  bool flag(const std::string& field) {
    const Json& value = take(field);
    if (!value.is_boolean()) refuse(field, "true or false", value);
    return value.get<bool>();
  }
  std::string text(const std::string& field) {
    const Json& value = take(field);
    if (!value.is_string()) refuse(field, "a text", value);
    return value.get<std::string>();
  }
  std::vector<double> numbers(const std::string& field, double low, double high) {
    std::vector<double> out;
    for (const Json& value : list(field)) out.push_back(number(field, value, low, high));
    return out;
  }
  std::vector<int> integers(const std::string& field, int low, int high) {
    std::vector<int> out;
    for (const Json& value : list(field)) {
      if (!value.is_number_integer()) refuse(field, "a list of integers", value);
      out.push_back(static_cast<int>(number(field, value, low, high)));
    }
    return out;
  }

  // The field's value is sound but not what this program runs, or does not fit another one.
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    fail_file("{}: {}: {}", what_, name_, fmt::format(format, std::forward<Args>(args)...));
  }

  void finish() const {
    for (const auto& [field, value] : fields_->items())
      if (std::find(taken_.begin(), taken_.end(), field) == taken_.end())
        fail("unknown field '{}'{}", field, did_you_mean(field, taken_));
  }

 private:
  const Json& take(const std::string& field) {
    taken_.push_back(field);
    const auto found = fields_->find(field);
    if (found == fields_->end()) fail("lacks the field '{}'", field);
    return *found;
  }
  const Json& list(const std::string& field) {
    const Json& value = take(field);
    if (!value.is_array()) refuse(field, "a list", value);
    if (value.size() > 1000) fail("'{}' must have at most 1000 values, found {}", field, value.size());
    return value;
  }
  double number(const std::string& field, const Json& value, double low, double high) const {
    if (!value.is_number()) refuse(field, "a number", value);
    return in_range<double>(field, value.get<double>(), low, high);
  }
  template <class T>
  T in_range(const std::string& field, T value, T low, T high) const {
    if (!(low <= value && value <= high)) fail("'{}' must lie in {} ... {}, found {}", field, low, high, value);
    return value;
  }
  [[noreturn]] void refuse(const std::string& field, const char* wanted, const Json& value) const {
    fail("'{}' must be {}, found a JSON {}", field, wanted, value.type_name());
  }

  std::string what_, name_;
  const Json* fields_;
  std::vector<std::string> taken_;
};

constexpr int64_t kMaxWidth = 1 << 20;
constexpr int kMaxFrames = 1 << 24;

// D * ratio, which must be a whole number.
int64_t scaled(Section& s, const std::string& field, int64_t dim) {
  const double product = s.number(field, 1e-3, 16) * static_cast<double>(dim);
  if (product < 1 || product != std::floor(product)) s.fail("hidden_size {} x {} is no whole number", dim, field);
  return static_cast<int64_t>(product);
}

ModelConfig read_model(Section s) {
  ModelConfig m;
  s.text("model_name");
  s.text("params_dtype");
  m.layers = s.integer("num_layers", 1, 1000);
  m.dim = s.integer("hidden_size", 1, kMaxWidth);
  m.ffn_dim = s.integer("ffn_hidden_size", 1, kMaxWidth);
  m.heads = s.integer("num_attention_heads", 1, kMaxWidth);
  m.kv_heads = s.integer("num_query_groups", 1, kMaxWidth);
  m.head_width = s.integer("kv_channels", 8, kMaxWidth);
  m.eps = s.number("layernorm_epsilon", 0, 1);
  m.norm_plus_one = s.flag("apply_layernorm_1p");
  m.x_rescale_factor = s.number("x_rescale_factor", 1e-6, 1e6);
  m.half_channel_vae = s.flag("half_channel_vae");
  m.in_channels = s.integer("in_channels", 1, kMaxWidth);
  m.out_channels = s.integer("out_channels", 1, kMaxWidth);
  m.condition_dim = scaled(s, "cond_hidden_ratio", m.dim);
  m.caption_dim = s.integer("caption_channels", 1, kMaxWidth);
  m.caption_length = s.integer("caption_max_length", 2, kMaxWidth);
  m.gated_mlp = s.flag("gated_linear_unit");
  if (s.integer("patch_size", 1, kMaxWidth) != ModelConfig::patch || s.integer("t_patch_size", 1, kMaxWidth) != 1)
    s.fail("patches must be 2 x 2 pixels of one latent frame (patch_size 2, t_patch_size 1)");
  if (scaled(s, "xattn_cond_hidden_ratio", m.dim) != m.dim || scaled(s, "cond_gating_ratio", m.dim) != m.dim)
    s.fail("xattn_cond_hidden_ratio and cond_gating_ratio must be 1");
  if (m.dim != m.heads * m.head_width)
    s.fail("hidden_size {} is not num_attention_heads {} x kv_channels {}", m.dim, m.heads, m.head_width);
  if (m.heads % m.kv_heads != 0)
    s.fail("num_attention_heads {} is no multiple of num_query_groups {}", m.heads, m.kv_heads);
  if (m.dim % 8 != 0 || m.head_width % 8 != 0)
    s.fail("hidden_size {} and kv_channels {} must be multiples of 8", m.dim, m.head_width);
  if (m.in_channels != m.out_channels || (m.half_channel_vae && m.in_channels % 2 != 0))
    s.fail("in_channels {} and out_channels {} must be equal, and even with half_channel_vae", m.in_channels,
           m.out_channels);
  s.finish();
  return m;
}

RunConfig read_run(Section s) {
  RunConfig r;
  r.branches = static_cast<int>(s.integer("cfg_number", 1, 3));
  r.guidance_times = s.numbers("cfg_t_range", 0, 1);
  r.prev_chunk_scales = s.numbers("prev_chunk_scales", -1e3, 1e3);
  r.text_scales = s.numbers("text_scales", -1e3, 1e3);
  r.key_chunks = s.integers("noise2clean_kvrange", 1, kMaxFrames);
  r.clean_key_chunks = static_cast<int>(s.integer("clean_chunk_kvrange", -1, kMaxFrames));
  r.clean_t = s.number("clean_t", 0, 1);
  r.seed = s.integer("seed", 0, INT64_MAX);
  r.frames = static_cast<int>(s.integer("num_frames", 1, kMaxFrames));
  r.height = static_cast<int>(s.integer("video_size_h", 16, kMaxWidth));
  r.width = static_cast<int>(s.integer("video_size_w", 16, kMaxWidth));
  r.steps = static_cast<int>(s.integer("num_steps", 1, 10000));
  r.window = static_cast<int>(s.integer("window_size", 1, 1000));
  r.fps = static_cast<int>(s.integer("fps", 1, 1000));
  r.chunk_frames = static_cast<int>(s.integer("chunk_width", 1, 1000));
  r.scale_factor = s.number("scale_factor", 1e-6, 1e6);
  r.temporal_downsample = static_cast<int>(s.integer("temporal_downsample_factor", 1, 64));
  for (const char* path : {"load", "t5_pretrained", "t5_device", "vae_pretrained"}) s.text(path);

  if (r.guidance_times.empty() || r.guidance_times.front() != 0 ||
      std::adjacent_find(r.guidance_times.begin(), r.guidance_times.end(), std::greater_equal<>()) !=
          r.guidance_times.end())
    s.fail("'cfg_t_range' must rise from 0");
  if (r.prev_chunk_scales.size() != r.guidance_times.size() || r.text_scales.size() != r.guidance_times.size())
    s.fail(
        "'prev_chunk_scales' and 'text_scales' must have one value for each of the {} in 'cfg_t_range', found {} and "
        "{}",
        r.guidance_times.size(), r.prev_chunk_scales.size(), r.text_scales.size());
  if (r.clean_key_chunks == 0) s.fail("'clean_chunk_kvrange' must be -1 or at least 1");
  if (r.height % 16 != 0 || r.width % 16 != 0)
    s.fail("the video size {} x {} must be multiples of 16", r.height, r.width);
  const int parts = std::max<int>(1, static_cast<int>(r.key_chunks.size()));
  if (r.steps % r.window != 0 || r.steps % parts != 0)
    s.fail("'num_steps' {} must be a multiple of 'window_size' {} and of the {} values of 'noise2clean_kvrange'",
           r.steps, r.window, parts);
  s.finish();
  return r;
}

EngineConfig read_engine(Section s) {
  EngineConfig e;
  e.distilled = s.flag("distill");
  e.fp8 = s.flag("fp8_quant");
  e.nearly_clean_threshold = s.number("distill_nearly_clean_chunk_threshold", 0, 1);
  e.shortcut_mode = s.text("shortcut_mode");
  for (const char* text : {"distributed_backend", "cp_strategy"}) s.text(text);
  for (const char* integer : {"distributed_timeout_minutes", "pp_size", "cp_size", "ulysses_overlap_degree"})
    s.integer(integer, -1, kMaxFrames);
  for (const char* flag : {"kv_offload", "enable_cuda_graph"}) s.flag(flag);
  if (e.shortcut_mode != "8,16,16" && e.shortcut_mode != "16,16,8")
    s.fail("'shortcut_mode' must be '8,16,16' or '16,16,8', found '{}'", e.shortcut_mode);
  s.finish();
  return e;
}

}  // namespace

Config Config::parse(const std::string& json, const std::string& what) {
  const Json file = parse_strict_json({reinterpret_cast<const uint8_t*>(json.data()), json.size()}, what);
  static const std::vector<std::string> sections{"model_config", "runtime_config", "engine_config"};
  for (const auto& [name, value] : file.items())
    if (std::find(sections.begin(), sections.end(), name) == sections.end())
      fail_file("{}: unknown section '{}'{}", what, name, did_you_mean(name, sections));
  const Config config{read_model({file, sections[0], what}), read_run({file, sections[1], what}),
                      read_engine({file, sections[2], what})};
  const int branches = config.engine.distilled || config.engine.fp8 ? 1 : 3;
  if (config.run.branches != branches)
    fail_file("{}: runtime_config: 'cfg_number' must be {} for a {} model, found {}", what, branches,
              config.engine.fp8         ? "quantised"
              : config.engine.distilled ? "distilled"
                                        : "base",
              config.run.branches);
  return config;
}

Config Config::read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  if (!stream) fail_file("{}: cannot be read", file.string());
  return parse(text.str(), file.string());
}

}  // namespace longtake::magi
