"""The benchmark on a real CLIP of open_clip, small and with random weights.

Its packages lie apart (see the Makefile): torchvision is of another build than the CPU's torch, and where
transformers finds such a torchvision it fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PACKAGES = Path(sys.prefix) / "clip"
ROOT = Path(__file__).parents[2]  # for `experiments`

ARCHITECTURE = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}

PROGRAM = """
import sys
import numpy as np
from paramcast.video.encoders import image_encoder, text_encoder

try:
    image_encoder("open_clip:tiny")
except Exception as error:
    assert "ARCH:PRETRAINED" in str(error), error
import paramcast.video.encoders.optional as optional

open_clip = optional._package("open_clip", "clip")
import torch

open_clip.add_model_config("configs")
torch.manual_seed(0)
model = open_clip.create_model("tiny").eval()
torch.save(model.state_dict(), "tiny.pt")

# The two halves give what open_clip gives.
vision, language = image_encoder("open_clip:tiny:tiny.pt"), text_encoder("open_clip:tiny:tiny.pt")
pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
mean, std = (torch.tensor(each)[:, None, None] for each in (model.visual.image_mean, model.visual.image_std))
texts = ["a video of cats.", "a dog"]
with torch.no_grad():
    images = model.encode_image((scaled - mean) / std).numpy()
    words = model.encode_text(open_clip.get_tokenizer("tiny")(texts), normalize=True).numpy()
np.testing.assert_allclose(vision(pixels), images, atol=1e-4)
np.testing.assert_allclose(language(texts), words, atol=1e-5)
assert vision.text_space == ("open_clip:tiny:tiny.pt", 32)

from experiments.methods.mm_adapter.command import command

command(sys.argv[1:], standalone_mode=False)
"""


@pytest.mark.skipif(
    not PACKAGES.is_dir(), reason="open_clip's packages are not there: make test installs them"
)
def test_benchmark_on_a_real_clip(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.json").write_text(json.dumps(ARCHITECTURE))
    colours = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "grey": (128, 128, 128)}
    rng, lines = np.random.default_rng(0), []
    for number in range(32):
        name, colour = list(colours.items())[number % 4]
        frame = np.clip(np.array(colour) + rng.integers(-25, 25, (40, 48, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
        lines.append(json.dumps({"id": f"clip{number}", "frames": [f"{number}.png"], "colour": name}))
    (tmp_path / "clips.jsonl").write_text("\n".join(lines))
    arguments = "--encoder open_clip:tiny:tiny.pt --data . --label colour --shots 2 --seeds 1 --json out.json"
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments.split()],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": f"{PACKAGES}{os.pathsep}{ROOT}", "PARAMCAST_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "out.json").read_text())
    by_name = {row["method"]: row for row in figures["rows"]}
    assert by_name["zero-shot"]["encoder"] == "open_clip:tiny:tiny.pt"
    assert by_name["linear probe"]["base"]["mean"] == 100  # random weights still tell red from blue
    assert "Multi-Modal Adapter" in by_name
