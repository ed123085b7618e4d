"""Makes the clips and the numbers that tests/video_io/metrics_test.cpp checks PSNR and SSIM against.

    pip install scikit-image==0.26.0 av safetensors          (Python 3.11)
    apt-get download forensics-samples-files && dpkg -x forensics-samples-files*.deb samples
    python make_metrics.py samples/usr/share/forensics-samples/original-files/movie1/VID_20191220_170832.mp4

A small crop of a hand-held film ("movie1" of the Debian package forensics-samples, by Joao Eriberto Mota Filho, CC-BY-SA-4.0) and the
same crop after H.264 at crf 38: reference.safetensors and test.safetensors, tensor "frames", uint8 [6, 64, 96, 3]. golden.json holds
scikit-image's numbers for each frame, on values divided by 255 as float64. `--torchmetrics` (any Python with torch and torchmetrics)
adds torchmetrics' SSIM of the same files to golden.json instead.
"""
import json
import pathlib
import sys
import tempfile

import numpy as np

here = pathlib.Path(__file__).parent


def load(name):
    # Without the safetensors package: the header's length, the header, the bytes.
    data = (here / name).read_bytes()
    size = int.from_bytes(data[:8], "little")
    shape = json.loads(data[8:8 + size])["frames"]["shape"]
    return np.frombuffer(data[8 + size:], np.uint8).reshape(shape)


def make_clips(film):
    import av
    from safetensors.numpy import save_file

    pictures = []
    with av.open(film) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i % 4 == 0:
                rgb = frame.to_ndarray(format="rgb24")
                step = rgb.shape[0] // 160  # every step-th pixel: more content in a small crop
                pictures.append(np.ascontiguousarray(rgb[::step, ::step][40:104, 30:126]))
            if len(pictures) == 6:
                break
    reference = np.stack(pictures)
    path = pathlib.Path(tempfile.mkdtemp()) / "crf38.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "38"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for picture in reference:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        test = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert reference.shape == test.shape == (6, 64, 96, 3), (reference.shape, test.shape)
    save_file({"frames": reference}, here / "reference.safetensors")
    save_file({"frames": test}, here / "test.safetensors")


def skimage_numbers():
    import skimage
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    x, y = load("reference.safetensors") / 255.0, load("test.safetensors") / 255.0
    settings = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=-1)
    golden = {
        "skimage": skimage.__version__,
        "psnr": [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(x, y)],
        "ssim": [structural_similarity(a, b, **settings) for a, b in zip(x, y)],
        "psnr_pooled": peak_signal_noise_ratio(x, y, data_range=1),
    }
    (here / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def torchmetrics_numbers():
    import torch
    import torchmetrics
    from torchmetrics.functional import structural_similarity_index_measure

    golden = json.loads((here / "golden.json").read_text())
    x, y = (torch.from_numpy(load(name) / 255.0).permute(0, 3, 1, 2) for name in ("reference.safetensors", "test.safetensors"))
    golden["torchmetrics"] = torchmetrics.__version__
    golden["torchmetrics_ssim"] = [structural_similarity_index_measure(b[None], a[None], data_range=1.0).item() for a, b in zip(x, y)]
    (here / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if sys.argv[1] == "--torchmetrics":
    torchmetrics_numbers()
else:
    make_clips(sys.argv[1])
    skimage_numbers()
