// What the generation loop asks of a video model, whatever its family.
//
// A row of the schedule is handed over whole: `forward` takes one WorkItem per chunk and branch and runs all of them layer by
// layer, so that they share every weight read. The object is bound to one prompt and one window geometry; weights are
// immutable and the K/V cache belongs to the caller.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "attention/attend.h"
#include "cache/kv_cache.h"
#include "cache/token_set.h"

namespace longtake {

// One chunk in one branch of one row.
struct WorkItem {
  int chunk = 0;
  int branch = 0;                   // 0 cond, 1 uncond (further branches where a family has them)
  TokenSet tokens = TokenSet::all();
  std::vector<double> timesteps;    // one per latent frame of the chunk
  KeyRange keys;                    // tokens of the window that it attends to; those that the K/V cache no longer holds are left out
  // False: its keys and values are not stored. Items of its branch in the same call see them in MAGI-1; in SkyReels-V2 they
  // see what is stored.
  bool writes_kv = true;
  // The chunk is denoised and runs once more for its keys and values; MAGI-1 gives it no text then.
  bool finished = false;
  // For models that are conditioned on the size of the solver's step too (distilled MAGI-1: dt); 0 for all others.
  double step_size = 0;
};

// The chunks of a window: latent frames [first, first + frames) each; tokens are chunk-major, frame-major.
struct WindowGeometry {
  struct Chunk {
    int64_t first = 0, frames = 0;
    int text = 0;       // which of the prompts it attends to
    int64_t shift = 0;  // its place in time (RoPE) is `shift` latent frames behind `first`
  };
  std::vector<Chunk> chunks;
  int64_t latent_height = 0, latent_width = 0;  // latent pixels
  int64_t plane = 0;                            // tokens of one latent frame
  bool end_picture = false;                     // chunk 0 is a picture that stands behind the last chunk in time

  int64_t frames() const { return chunks.empty() ? 0 : chunks.back().first + chunks.back().frames; }
  int64_t tokens() const { return frames() * plane; }
  int64_t chunk_tokens(int chunk) const { return chunks.at(chunk).frames * plane; }
  int64_t start(int chunk) const { return chunks.at(chunk).first * plane; }
  int64_t position(int chunk) const { return (chunks.at(chunk).first + chunks.at(chunk).shift) * plane; }  // in time, in tokens
};

class Backbone {
 public:
  virtual ~Backbone() = default;

  virtual const WindowGeometry& geometry() const = 0;
  virtual KvShape kv_shape() const = 0;

  // latents [C, F, h, w] float32 of one chunk -> hidden state before the first block, [F*plane, dim].
  virtual at::Tensor embed(const at::Tensor& latents) const = 0;

  // inputs[i]: the embedded chunk of items[i] (all of its tokens). Returns per item the last hidden state of its token set,
  // [count, dim], in the order of the items. Items of one branch must stand together. All K/V rows of a layer are written before
  // any item attends in that layer. Hands queries over where the cache asks for them (KvCache::on_queries).
  virtual std::vector<at::Tensor> forward(std::span<const WorkItem> items, std::span<const at::Tensor> inputs,
                                          KvCache& kv) const = 0;

  // Velocity [C, F, h, w] float32 from a chunk's complete hidden state [F*plane, dim] and its frames' timesteps.
  virtual at::Tensor head(const at::Tensor& hidden, std::span<const double> timesteps) const = 0;

  // The vector that conditions every token on the timestep, float32 on the host; step distances are measured on it.
  virtual at::Tensor step_embedding(double timestep) const = 0;

  // 2 * multiply-adds of one item: `tokens` queries against `keys` keys, head excluded.
  virtual double flops(int64_t tokens, int64_t keys) const = 0;
};

}  // namespace longtake
