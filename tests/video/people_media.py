"""Videos of the kinds that users have; every frame shows its number and four colored corners."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

W, H, B = 320, 240, 24
COLORS = {"r": (220, 30, 30), "g": (30, 200, 30), "b": (30, 30, 220), "y": (220, 220, 30)}
MATRICES = {
    "upright": (1, 0, 0, 1),
    "hflip": (-1, 0, 0, 1),
    "vflip": (1, 0, 0, -1),
    "r180": (-1, 0, 0, -1),
    "r90": (0, 1, -1, 0),
    "r270": (0, -1, 1, 0),
    "transpose": (0, 1, 1, 0),
    "transverse": (0, -1, -1, 0),
}
"""Display matrices (a, b, c, d): x' = a x + c y, y' = b x + d y."""


def picture(number: int) -> np.ndarray:
    """Draw a number 0..1023 as ten blocks along the upper edge, and corners in red, green, blue, yellow."""
    image = np.full((H, W, 3), 110, np.uint8)
    image[:B, :B], image[:B, -B:] = COLORS["r"], COLORS["g"]
    image[-B:, :B], image[-B:, -B:] = COLORS["b"], COLORS["y"]
    step = (W - 2 * B) // 10
    for bit in range(10):
        image[:B, B + bit * step : B + (bit + 1) * step] = 235 if number >> bit & 1 else 20
    return image


def number_of(frame: np.ndarray) -> int:
    """Read the number that `picture` drew from an upright frame of any size."""
    height, width = frame.shape[:2]
    b, step, y = B * width / W, (W - 2 * B) // 10 * width / W, int(B * height / H / 2)
    return sum(1 << bit for bit in range(10) if frame[y, int(b + (bit + 0.5) * step)].mean() > 128)


def numbers(frames: Iterable[np.ndarray]) -> list[int]:
    return [number_of(frame) for frame in frames]


def corners(frame: np.ndarray) -> str:
    """Return the colors of the upper left, upper right, lower left and lower right corner: 'rgby' upright."""
    spots = [frame[5, 5], frame[5, -6], frame[-6, 5], frame[-6, -6]]
    return "".join(
        min(COLORS, key=lambda name: np.abs(spot.astype(int) - COLORS[name]).sum()) for spot in spots
    )


def encode(
    path: Path,
    numbers: Iterable[int],
    *,
    codec: str = "libx264",
    rate: int = 10,
    gop: int = 250,
    bframes: int = 2,
    times: Sequence[int] | None = None,
    **options: str,
) -> Path:
    """Write numbered pictures at `rate` per second, or at `times` in 1/1000 s."""
    coding = dict(options) if codec == "mjpeg" else {"g": str(gop), "bf": str(bframes), **options}
    if codec == "libx264":
        coding |= {"preset": "veryfast"}
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream(codec, rate=rate, options=coding)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
        if times is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[place], Fraction(1, 1000)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode())
    return path


def cut_by_copy(source: Path, target: Path, start: float, length: float) -> Path:
    """Cut like `ffmpeg -ss START -i SOURCE -t LENGTH -c copy TARGET`: an edit list hides the lead-in."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as part:
        stream = whole.streams.video[0]
        copy = part.add_stream_from_template(stream)
        shift = int(start / stream.time_base)
        whole.seek(shift, stream=stream)
        for packet in whole.demux(stream):
            if packet.size and packet.pts * stream.time_base < start + length:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                part.mux(packet)
    return target


def joined(folder: Path, name: str, *parts: Iterable[int]) -> Path:
    """Concatenate MPEG-TS files like `cat`: the timestamps jump back."""
    path = folder / name
    data = b""
    for part in parts:
        data += encode(folder / f"part-{name}", part, gop=10).read_bytes()
    path.write_bytes(data)
    return path


def without_packets(source: Path, target: Path, dropped: range) -> Path:
    """Copy a video without some packets, which are numbered in decoding order."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as part:
        stream = whole.streams.video[0]
        copy = part.add_stream_from_template(stream)
        for place, packet in enumerate(packet for packet in whole.demux(stream) if packet.size):
            if place not in dropped:
                packet.stream = copy
                part.mux(packet)
    return target


def with_matrix(source: Path, target: Path, a: int, b: int, c: int, d: int) -> Path:
    """Copy an MP4 with another display matrix in its track header."""
    data = bytearray(source.read_bytes())
    at = data.find(b"tkhd")
    place = at + 4 + (40 if data[at + 4] == 0 else 52)
    data[place : place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


def shown_by_pyav(path: Path) -> list[int]:
    """Return the numbers of all frames that PyAV decodes, in order."""
    with av.open(str(path)) as container:
        return numbers(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))


def shown_by_ffmpeg(path: Path, *options: str) -> list[np.ndarray] | None:
    """Return every frame that ffmpeg shows, upright; None if ffmpeg is not installed."""
    if shutil.which("ffmpeg") is None:
        return None
    command = ["ffmpeg", "-v", "quiet", *options, "-i", str(path), "-fps_mode", "passthrough"]
    done = subprocess.run(
        [*command, "-f", "image2pipe", "-c:v", "ppm", "-"], capture_output=True, check=True
    ).stdout
    frames, at = [], 0
    while at < len(done):
        _, size, _, _ = done[at:].split(b"\n", 3)
        width, height = map(int, size.split())
        begin = at + len(b"P6\n" + size + b"\n255\n")
        at = begin + 3 * width * height
        frames.append(np.frombuffer(done[begin:at], np.uint8).reshape(height, width, 3))
    return frames
