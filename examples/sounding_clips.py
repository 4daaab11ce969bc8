"""Generate short clips with sound: a shape that moves, and a bell, a whistle or knocking.

The clips are drawn and synthesized, so that the examples need no download; the files are real mp4 and mkv.
"""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np

from paramcast.video.data.collection import Collection

SIGHTS = ("disc", "square", "triangle")
SOUNDS = ("bell", "whistle", "knocking")
NOISES = ("hum", "hiss", "rumble")
RATE, SAMPLES = 16_000, 31_200  # two windows of YAMNet
FRAMES, SIDE = 4, 112


def make_clips(folder: Path, count: int, seed: int = 0) -> Collection:
    """Write a collection; the category of a clip holds the numbers of its shape and its sound."""
    rng, lines = np.random.default_rng(seed), []
    for place in range(count):
        sight, sound = rng.integers(len(SIGHTS)), rng.integers(len(SOUNDS))
        name = f"clip{place}.{('mp4', 'mkv')[place % 2]}"
        write_video(folder / name, draw(int(sight), rng), play(int(sound), rng))
        lines.append({"id": f"clip{place}", "video": name, "category": f"{sight} {sound}"})
    (folder / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return Collection.open(folder)


def draw(sight: int, rng: np.random.Generator) -> np.ndarray:
    """Draw frames (FRAMES, SIDE, SIDE, 3) uint8 of a colored shape that moves over a colored background."""
    coarse = rng.uniform(30, 225, 3) + rng.normal(0, 18, (6, 6, 3))
    background = cv2.resize(coarse.clip(0, 255).astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    start, move = rng.uniform(0.35, 0.65, 2) * SIDE, rng.uniform(-4, 4, 2)
    radius, colour = int(rng.integers(22, 34)), [int(part) for part in rng.integers(0, 256, 3)]
    frames = np.repeat(background[None], FRAMES, 0)
    for time, frame in enumerate(frames):
        x, y = (start + time * move).astype(int).tolist()
        if sight == 0:
            cv2.circle(frame, (x, y), radius, colour, -1, cv2.LINE_AA)
        elif sight == 1:
            cv2.rectangle(frame, (x - radius, y - radius), (x + radius, y + radius), colour, -1)
        else:
            corners = np.array([[x, y - radius], [x - radius, y + radius], [x + radius, y + radius]])
            cv2.fillPoly(frame, [corners], colour, cv2.LINE_AA)
    return frames


def play(sound: int, rng: np.random.Generator) -> np.ndarray:
    """Synthesize a sound (SAMPLES,) float32 in [-1, 1]."""
    times = np.arange(SAMPLES) / RATE
    if sound == 0:  # partials that fade
        pitch, period = rng.uniform(500, 900), rng.uniform(0.6, 1.2)
        partials = sum(np.sin(2 * np.pi * pitch * k * times) / k for k in (1, 2.76, 5.4))
        wave = partials * np.exp(-4 * (times % period))
    elif sound == 1:  # pitch that goes up and down
        pitch, depth, pace = rng.uniform(900, 1800), rng.uniform(100, 400), rng.uniform(1, 4)
        wave = np.sin(2 * np.pi * pitch * times + depth / pace * np.sin(2 * np.pi * pace * times))
    else:  # short bursts
        period = rng.uniform(0.15, 0.4)
        wave = rng.standard_normal(SAMPLES) * np.exp(-60 * (times % period))
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def background(kind: int, rng: np.random.Generator) -> np.ndarray:
    """Synthesize background noise (SAMPLES,) float32 of unit power."""
    white: np.ndarray = rng.standard_normal(SAMPLES)
    times = np.arange(SAMPLES) / RATE + rng.random()
    hum = sum(np.sin(2 * np.pi * 100 * k * times) for k in (1, 2, 3, 5)) + 0.1 * white
    noise = (hum, white, np.convolve(white, np.ones(64), "same"))[kind]
    return (noise / noise.std()).astype(np.float32)


def write_video(path: Path, frames: np.ndarray, sound: np.ndarray) -> None:
    """Write a video file, encoded as H.264 and AAC."""
    with av.open(path, "w") as writer:
        video = writer.add_stream("libx264", rate=2, options={"crf": "20", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = SIDE, SIDE, "yuv420p"
        audio = writer.add_stream("aac", rate=RATE, layout="mono")
        heard = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
        heard.rate = RATE
        shown = [av.VideoFrame.from_ndarray(frame) for frame in frames]
        for stream, parts in ((video, [*shown, None]), (audio, [heard, None])):
            for part in parts:
                writer.mux(stream.encode(part))
