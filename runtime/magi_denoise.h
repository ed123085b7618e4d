// The denoising loop of a MAGI-1 video: rows of the schedule, decisions of the policy, the backbone's branches,
// guidance, Euler steps. Spec: magi1.md 3; what the policies of the MotionCache fork ask for: motioncache.md 2.
//
// What a chunk keeps of a computed step is its guided velocity. Tokens that are not recomputed take theirs from there,
// reused or predicted, so that a reused chunk costs neither a forward pass nor a head, in whatever number of branches.
#pragma once

#include "cache/policy.h"
#include "models/backbone.h"
#include "runtime/denoise_hooks.h"
#include "runtime/magi_schedule.h"
#include "runtime/noise.h"

namespace longtake::magi {

// What the reference programs do and a run otherwise does not.
struct Quirks {
  // A finished chunk's given frames are handed out as its last step left them, not as they were given.
  bool moved_prefix = false;
  // The rest are those of the MotionCache fork. What is kept of a step is how far the latents went, not the velocity.
  bool displacement = false;
  // A chunk of which only some tokens are computed attends to what the first chunk in flight attends to.
  bool first_chunks_keys = false;
  // A chunk that has a nearly clean copy and is computed in part takes the blend of both for all its tokens, where
  // those that were not computed count as zero.
  bool diluted_copies = false;
  // Policies observe the latents as they stand, not the clean ones that the velocity points to; and for prefix chunks
  // the noise that the given latents took the place of.
  bool noisy_motion = false;
};

struct VideoSettings {
  Config config;              // the model's guidance scales and frames a chunk
  ScheduleSettings schedule;  // steps, window, key ranges; whether there are clean passes and nearly clean copies
  VideoSize size;
  Quirks quirks;
  // Base models: the branches of guidance keep keys of their own for the chunks in flight, as decisions per token need.
  bool own_keys = false;

  // As the configuration says: everything that the model does by itself, no quirks.
  static VideoSettings of(const Config& config, int prefix_frames);
};

// The chunks of the video as a backbone wants them; latent height and width in latent pixels.
WindowGeometry video_geometry(const VideoSize& size, int64_t latent_height, int64_t latent_width);

// Denoises a video and returns its latents [C, F, h, w] float32 on `device`, given frames included, each chunk as it
// was handed out.
//
// backbone: of video_geometry(), with the branches of guidance_branches() (runtime/magi_texts.h makes them) and keys of
// their own where the settings say so.
//
// policy: of one branch, since what it decides for a chunk holds for all branches of guidance. It sees window 0; before a
// row the embedded latents of its chunks; and after it, as "hidden state", the latents that the velocity points to, by
// patch [frames, plane, C*4] (of prefix chunks the given ones).
//
// prefix [C, P, h, w]: the given latents, P = settings.size.prefix_frames; undefined for none.
//
// noise: latents(0, [C, F, h, w]) is what the video starts from.
//
// hooks: finished chunks come in RowEnd::finished; RowEnd::latents then holds them, and what of them is new is
// settings.size.emitted(chunk).
//
// resume: a state that RowEnd::state gave in an equal run, which goes on behind that row, to the same bits.
//
// Errors: numerical (a velocity that is not finite), bad_file (a state of another run).
at::Tensor denoise_video(const Backbone& backbone, CachePolicy& policy, const VideoSettings& settings,
                         const at::Tensor& prefix, NoiseSource& noise, const at::Device& device, RunStats& stats,
                         const DenoiseHooks& hooks = {}, const State* resume = nullptr);

}  // namespace longtake::magi
