from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clip_makers import number_of, numbered, picture_clip, texture, video_clip, write_video
from PIL import Image

from paramcast.video.data.collection import Clip, CollectionError
from paramcast.video.data.frames import read_frames, undecodable
from paramcast.video.data.sampling import uniform_indices


def numbers(clip: Clip, count: int, sampling: str = "uniform") -> list[int]:
    return [number_of(frame) for frame in read_frames(clip, count, sampling)]


@pytest.mark.parametrize("gop", [1, 5, 250])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.webm"])
def test_uniform_finds_the_right_frames(tmp_path: Path, name: str, gop: int) -> None:
    codec = {"a.avi": "mpeg4", "a.webm": "libvpx"}.get(name, "libx264")
    path = write_video(tmp_path / name, [numbered(n) for n in range(16)], gop=gop, codec=codec)
    frames = read_frames(video_clip(path), 4)
    assert frames.shape == (4, 96, 128, 3)
    assert frames.dtype == np.uint8
    assert [number_of(frame) for frame in frames] == list(uniform_indices(16, 4))
    assert numbers(video_clip(path), 40) == list(range(16))


def test_raw_h264_without_times_is_read_in_order(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.h264", [numbered(n) for n in range(16)])
    assert numbers(video_clip(path), 8) == list(uniform_indices(16, 8))


def test_time_spreads_over_a_variable_frame_rate(tmp_path: Path) -> None:
    pts = [10 * n for n in range(12)] + [120 + 1000 * n for n in range(4)]
    path = write_video(tmp_path / "a.mkv", [numbered(n) for n in range(16)], pts=pts)
    # The quick ones are over after 0.12 s of 3.13: slow ones show at the centres of all four quarters.
    assert numbers(video_clip(path), 4, "time") == [12, 13, 14]
    assert numbers(video_clip(path), 4, "uniform") == list(uniform_indices(16, 4))


@pytest.mark.parametrize("kind", ["video", "pictures"])
def test_scene_takes_every_scene(tmp_path: Path, kind: str) -> None:
    scenes = [2] * 24 + [14] * 3 + [6] * 13
    made = [numbered(n) for n in scenes]
    clip = (
        video_clip(write_video(tmp_path / "a.mp4", made)) if kind == "video" else picture_clip(tmp_path, made)
    )
    assert sorted(set(numbers(clip, 3, "scene"))) == [2, 6, 14]
    assert 14 not in numbers(clip, 2, "scene")


@pytest.mark.parametrize("sampling", ["uniform", "time", "scene"])
def test_a_clip_of_one_frame_gives_one(tmp_path: Path, sampling: str) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(3)])
    assert read_frames(video_clip(path), 8, sampling).shape == (1, 96, 128, 3)
    assert read_frames(picture_clip(tmp_path, [numbered(3)]), 8, sampling).shape == (1, 96, 128, 3)


def test_a_rotated_video_is_turned_upright(tmp_path: Path) -> None:
    frame = numbered(2)
    frame[:, :64] = 240  # the left half is bright
    turned = write_video(tmp_path / "a.mp4", [frame] * 3, rotation=90)
    seen = read_frames(video_clip(turned), 2)
    assert seen.shape == (2, 128, 96, 3)
    assert abs(float(seen[0, :64].mean()) - float(seen[0, 64:].mean())) > 150
    # Counter-clockwise: what was at the left is at the bottom.
    assert seen[0, 64:].mean() > seen[0, :64].mean()


class MisleadingContainer:
    """A container whose index is wrong: seeking leads four frames too far."""

    def __init__(self, container: Any) -> None:
        self.container = container
        self.seeks = 0

    def __enter__(self) -> MisleadingContainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.container, name)

    def seek(self, position: int, stream: Any) -> None:
        self.seeks += 1
        self.container.seek(position + round(0.4 / stream.time_base), stream=stream)


def test_a_wrong_index_of_the_container_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(n) for n in range(16)], gop=4)
    opened: list[MisleadingContainer] = []
    real_open = av.open

    def misleading(path: Path) -> MisleadingContainer:
        opened.append(MisleadingContainer(real_open(path)))
        return opened[-1]

    monkeypatch.setattr("av.open", misleading)
    assert numbers(video_clip(path), 4) == list(uniform_indices(16, 4))
    # One to find the frames, one that is led astray, one that goes through from the start.
    assert [container.seeks for container in opened] == [0, 1, 0]


def test_a_folder_keeps_order_and_gives_all_it_has(tmp_path: Path) -> None:
    clip = picture_clip(tmp_path, [numbered(n) for n in (5, 1, 9)])
    assert numbers(clip, 8) == [5, 1, 9]
    assert numbers(clip, 1) == [1]


def test_pictures_of_any_mode_and_size_come_out_alike(tmp_path: Path) -> None:
    source = Image.fromarray(texture(0, 600, 800))
    modes = {"rgb.jpg": "RGB", "grey.png": "L", "alpha.png": "RGBA", "palette.gif": "P", "cmyk.jpg": "CMYK"}
    for name, mode in modes.items():
        source.convert(mode).save(tmp_path / name)
    source.resize((100, 400)).save(tmp_path / "tall.webp")
    clip = Clip("clip", tmp_path, 1, frames=(*modes, "tall.webp"))
    assert read_frames(clip).shape == (6, 256, 341, 3)


def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(texture(0, 60, 80)).save(tmp_path / "a.jpg", exif=exif)
    assert read_frames(Clip("clip", tmp_path, 1, frames=("a.jpg",))).shape == (1, 80, 60, 3)


def test_shrinking_does_not_alias(tmp_path: Path) -> None:
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    seen = read_frames(picture_clip(tmp_path, [stripes]))
    assert seen.shape == (1, 256, 256, 3)
    assert seen.std() < 3


def broken_files(folder: Path) -> dict[str, bytes]:
    whole = write_video(folder / "whole.mp4", [texture(n, 96, 128) for n in range(30)]).read_bytes()
    with av.open(str(folder / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    return {
        "empty": b"",
        "noise": np.random.default_rng(0).bytes(5000),
        "truncated": whole[: len(whole) // 2],
        "overwritten": whole[:200] + np.random.default_rng(1).bytes(len(whole) - 2200) + whole[-2000:],
        "sound only": (folder / "sound.wav").read_bytes(),
    }


@pytest.mark.parametrize("sampling", ["uniform", "scene"])
@pytest.mark.parametrize("kind", ["empty", "noise", "truncated", "overwritten", "sound only"])
def test_a_broken_video_names_clip_and_line(tmp_path: Path, kind: str, sampling: str) -> None:
    (tmp_path / "broken.mp4").write_bytes(broken_files(tmp_path)[kind])
    clip = video_clip(tmp_path / "broken.mp4")
    with pytest.raises(CollectionError, match=r"clips\.jsonl:7: clip 'clip': cannot decode"):
        read_frames(clip, 8, sampling)
    assert undecodable(clip)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    clip = picture_clip(tmp_path, [texture(0), texture(1), texture(2)])
    for place in (1, 2):
        path = clip.paths[place]
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CollectionError, match=r"clips\.jsonl:1: clip 'clip': cannot decode \(clip-01\.png"):
        read_frames(clip)
    assert [message[: message.index(":")] for message in undecodable(clip)] == [
        "cannot decode (clip-01.png",
        "cannot decode (clip-02.png",
    ]


MEASURE = """
import resource, sys
from pathlib import Path
from paramcast.video.data.collection import Clip
from paramcast.video.data.frames import read_frames
root = Path(sys.argv[1])
read_frames(Clip("small", root, 1, video="small.mp4"), 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(read_frames(Clip("large", root, 1, video="large.mp4"), 30).shape)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_4k_video_fits_into_memory(tmp_path: Path) -> None:
    write_video(tmp_path / "small.mp4", [numbered(1)])
    picture = np.asarray(Image.fromarray(texture(0)).resize((3840, 2160)))
    write_video(tmp_path / "large.mp4", [picture] * 30, codec="mpeg4")
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    shape, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert shape == "(30, 256, 455, 3)"
    assert int(megabytes) < 250  # thirty whole frames are 712 MB


def test_real_videos(shared_data: Path) -> None:
    folder = shared_data / "video"
    for path in [*sorted(folder.glob("*.mp4"))[:2], *sorted(folder.rglob("*.mkv"))[:2]]:
        for sampling in ("uniform", "time", "scene"):
            frames = read_frames(video_clip(path), 8, sampling)
            assert frames.shape[0] == 8
            assert min(frames.shape[1:3]) <= 256
            assert frames.std() > 10
