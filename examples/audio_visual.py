"""Adapt an audio-visual classifier: EfficientNet-Lite0 on frames, YAMNet on the sound.

The shape in a clip (one of 3) and its sound (one of 3) together make its class. Each device has a different
camera (dim, out of focus, ...) and a different background noise (hum, hiss, rumble). The test devices and
their clips are in no training data. A test device sends features of 8 clips: of a frame and of a second of
sound each. The clips are generated: see sounding_clips.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sounding_clips import NOISES, SAMPLES, SIGHTS, SOUNDS, background, make_clips
from torch import Tensor, nn
from torch.nn import functional as F

import paramcast as pc
from paramcast.video.data.collection import Clip
from paramcast.video.data.frames import read_frames
from paramcast.video.data.sound import read_sound, sound_windows
from paramcast.video.encoders import audio_encoder, image_encoder
from paramcast.video.shifts.cameras import TRAINING_KINDS, Camera

CLIPS, TARGETS = 24, ("sight.1.bias", "sound.1.bias", "head")
IMAGE, AUDIO = image_encoder("efficientnet-lite0"), audio_encoder()
Recording = tuple[np.ndarray, np.ndarray, int]  # frames, sound, class


class ClipModel(nn.Module):
    """Model that maps features of frames (N, 1280) and of sound (N, 1024) to logits (N, 9)."""

    def __init__(self) -> None:
        super().__init__()
        self.sight = nn.Sequential(nn.LayerNorm(1280), nn.Linear(1280, 48))
        self.sound = nn.Sequential(nn.LayerNorm(1024), nn.Linear(1024, 48))
        self.head = nn.Linear(96, len(SIGHTS) * len(SOUNDS))

    def forward(self, frames: Tensor, sounds: Tensor) -> Tensor:
        """Classify by the joined representations of frames and sound (late fusion)."""
        both = torch.cat([self.sight(frames), self.sound(sounds)], -1)
        logits: Tensor = self.head(F.dropout(F.gelu(both), 0.3, self.training))
        return logits


def recorded(clip: Clip) -> Recording:
    """Read the frames, the sound and the class of a clip."""
    sight, sound = map(int, str(clip.category).split())
    return read_frames(clip, 2), read_sound(clip)[:SAMPLES], sight * len(SOUNDS) + sound


def make_device(name: str, recordings: Sequence[Recording], rng: np.random.Generator) -> pc.DeviceData:
    """Make a device with recordings through its camera and in its noise."""
    kind = TRAINING_KINDS[rng.integers(len(TRAINING_KINDS))]
    camera = Camera(kind, rng.uniform(0.3, 1), int(rng.integers(1000)))
    noise, level = int(rng.integers(len(NOISES))), np.float32(rng.uniform(0.01, 0.3))
    drawn = [recordings[place] for place in rng.choice(len(recordings), CLIPS, replace=False)]
    frames = np.concatenate([camera.apply(seen) for seen, _, _ in drawn])
    heard = [sound + level * background(noise, rng) for _, sound, _ in drawn]
    windows = np.concatenate([sound_windows(sound, AUDIO.window, AUDIO.window) for sound in heard])
    sight, sound = (features.reshape(CLIPS, 2, -1) for features in (IMAGE(frames), AUDIO(windows)))
    truth = np.concatenate([camera.describe(), 3 * level * np.eye(len(NOISES))[noise]])
    labels, context = np.array([number for *_, number in drawn]), np.concatenate([sight, sound], -1)
    return pc.DeviceData(name, (sight.mean(1), sound.mean(1)), labels, context, domain=truth)


def main() -> None:
    """Train and evaluate; training and test devices share no clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of everything (default: 0)")
    parser.add_argument("--devices", type=int, default=24, help="to train on, 2/3 to test (default: 24)")
    parser.add_argument("--clips", type=int, default=180, help="a third of them to test (default: 180)")
    parser.add_argument("--steps", type=int, default=300, help="of each hypernetwork (default: 300)")
    asked = parser.parse_args()
    validation = max(2, asked.devices // 4)
    with tempfile.TemporaryDirectory() as folder:
        recordings = [recorded(clip) for clip in make_clips(Path(folder), asked.clips, asked.seed).clips]
    rng = np.random.default_rng(asked.seed)
    new, known = recordings[: asked.clips // 3], recordings[asked.clips // 3 :]
    devices = [make_device(f"known-{i}", known, rng) for i in range(asked.devices + validation)]
    unknown = [make_device(f"new-{i}", new, rng) for i in range(asked.devices * 2 // 3)]
    torch.manual_seed(asked.seed)
    train, held = devices[: asked.devices], devices[asked.devices :]
    model = pc.adaptable(ClipModel(), TARGETS)
    model.fit(train, held, asked.steps, base=True, rate=3e-3, seed=asked.seed)
    print(model.evaluate(unknown, seed=asked.seed).table())


if __name__ == "__main__":
    main()
