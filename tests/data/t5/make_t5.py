"""Makes t5.safetensors and t5_io.safetensors: a tiny random T5 v1.1 encoder as the package transformers builds it, and
what it makes of token ids; and captions.json: captions as the caption cleaner of the package diffusers cleans them when
it runs twice. (MAGI-1's also strips white space in the middle of its rules, which can matter where a caption begins with
something that is deleted; none of these do.)

    python3 make_t5.py      # needs torch, transformers 4.57, diffusers 0.36, ftfy 6.3, beautifulsoup4, safetensors
"""

import json
from pathlib import Path

import torch
from diffusers.pipelines.deepfloyd_if.pipeline_if import IFPipeline
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel

HERE = Path(__file__).parent

CAPTIONS = [
    "A cat sits on the table.",
    "  Two   spaces\tand\n lines ",
    "",
    "ÄPFEL, Ärger und ЁЛКА",
    "A%20red+ball %C3%A9t%C3%A9 100%",
    "a <person> with a <b>hat</b> &amp; a 'coat'",
    "see https://example.com/path/to-it or www.test.org/ now",
    "write to me@example.com or @some_body please",
    "http://a.b-c.co.uk/x_y and example.de",
    "中文 text 中 and かな and 한글",
    "a – dash — and ― more ‐ here",
    "“curly” ‘single’ «guillemets» `tick´ ¨",
    "tom &quot;x&quot; &quotx &ampx &amp;lt; y",
    "at 192.168.10.255 today and 1.2.3",
    "a clip 1:23 ",
    "a clip 1:23 of it",
    "line\\nbreak and\\\\n",
    "#1 #12 #123 #1234 #12345 year 2024 number 1234567 and 12345",
    "photo IMG_1234.jpg and my.file.png.bak a.mp4",
    "what?? \"\"quoted'' text... and more.. dots",
    "#tag ®brand •dot ~x (paren) [b] {c} a|b a\\b a/b *star*",
    "one . two . three .four",
    "a-b_c-d e_f",
    "a-b_c-d",
    "jc6640 abc123 abcd123 ab12 6640vc231 a1b 1a2 3d 4k",
    "worldwide free shipping and free shipping, shipping",
    "free download free now download",
    "click for details or click on it, clicking on",
    "png images jpg image pdf pngs a webp",
    "page 12 of page twelve page 3a",
    "j2d1a2a x1y2z3 12ab34cd56",
    "size 3x4 10.5x20.25 3х4 5×6 cm 3x4cm 2x",
    "title : text a: b c :d",
    "one,two.three/four 1,000 3.14 a.b",
    "\"quoted whole\"",
    "'a'",
    "-start and end-",
    ":,start",
    ".hidden",
    ". not hidden",
    "5 < 6 and 7 > 3 <br/> end <unclosed",
    "x <!-- comment --> y <!-- open",
    "ﬁne ＦＵＬＬ width caf\u0065\u0301",
    "&lt;b&gt;bold&lt;/b&gt; &eacute; &#233; &copy;",
    "A robot's hand, 3D render; 8k -- ultra_detailed, HDR!",
    "a" * 60 + ".com x",
    "(((nested))) ~~~ ###",
    "emoji 🙂x1y 🙂 end",
    "50% off %zz %4",
    "https:x www:/// test.com@",
    "click on it#12™jc6640 No.5 №7",
    "black&white, black&and caf&eacute x &#233 &#233;",
    "’x’ and “hi” 3x4 '",
    "download - :3x4 ! site.com < 1,000",
]


class Cleaner:
    bad_punct_regex = IFPipeline.bad_punct_regex

    def __call__(self, text):
        return IFPipeline._clean_caption(self, IFPipeline._clean_caption(self, text))


def make_captions():
    cleaner = Cleaner()
    pairs = [[text, cleaner(text)] for text in CAPTIONS]
    (HERE / "captions.json").write_text(json.dumps(pairs, ensure_ascii=True, indent=0) + "\n")


def make_encoder():
    torch.manual_seed(1)
    config = T5Config(vocab_size=40, d_model=16, d_kv=6, d_ff=20, num_layers=3, num_heads=2, feed_forward_proj="gated-gelu",
                      dropout_rate=0.0)
    model = T5EncoderModel(config).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(torch.randn_like(tensor) * (0.1 if tensor.dim() == 1 else tensor.shape[-1] ** -0.5))
            if tensor.dim() == 1:
                tensor.add_(1)
            if "relative_attention_bias" in name:
                tensor.mul_(2)
            tensor.copy_(tensor.bfloat16().float())  # exact in a file of half the size
    ids = torch.randint(2, 40, (2, 150))
    mask = torch.ones_like(ids)
    ids[0, 30:], mask[0, 30:] = 0, 0
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = {name: t.bfloat16().clone() for name, t in model.state_dict().items() if name != "encoder.embed_tokens.weight"}
    save_file(weights, HERE / "t5.safetensors")
    # The short row, and of the long one every third position.
    save_file({"ids": ids, "mask": mask, "short": out[0, :30].clone(), "long": out[1, ::3].clone()},
              HERE / "t5_io.safetensors")


make_captions()
make_encoder()
