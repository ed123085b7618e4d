"""Makes demo_window.safetensors: one window of the demo model by the pip package diffusers.

    pip install diffusers==0.36.0 "transformers<5" sentencepiece ftfy accelerate
    python make_demo_window.py ../../../share/models/demo 37 12 demo_window.safetensors

tests/runtime/diffusers_test.cpp repeats it with longtake. The pipeline pads prompts to 512 tokens unless told otherwise; the
demo model was trained with 64.
Blocks of more than one frame would turn on a block-causal mask there, which neither the reference nor longtake's policy `none` has.
"""
import sys

import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline
from safetensors.torch import save_file

folder, frames, steps, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
pipe = SkyReelsV2DiffusionForcingPipeline.from_pretrained(folder, torch_dtype=torch.float32)
prompt = "a red circle moves from left to right over grass"
seed = 3  # the pipeline draws its first latents with this generator, as the line below does
tensors = {"initial": torch.randn(1, 16, (frames - 1) // 4 + 1, 16, 16, generator=torch.Generator().manual_seed(seed))[0]}
context, negative = pipe.encode_prompt(prompt, "", True, 1, max_sequence_length=64)
tensors["context"], tensors["negative_context"] = context[0], negative[0]
for name, settings in {"sync": dict(ar_step=0), "async": dict(ar_step=2, causal_block_size=1)}.items():
    latents = pipe(prompt, negative_prompt="", height=128, width=128, num_frames=frames, num_inference_steps=steps, guidance_scale=6.0,
                   generator=torch.Generator().manual_seed(seed), output_type="latent", base_num_frames=97, max_sequence_length=64,
                   fps=16, **settings).frames
    tensors[name] = latents[0]
    config = pipe.vae.config
    mean, deviation = (torch.tensor(x).view(1, 16, 1, 1, 1) for x in (config.latents_mean, config.latents_std))
    with torch.no_grad():
        video = pipe.vae.decode(latents * deviation + mean).sample[0]
    tensors[name + "_last_frame"] = video[:, -1].clamp(-1, 1).half()
save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, out, {"prompt": prompt, "steps": str(steps)})
