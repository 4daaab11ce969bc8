"""The frames of people's videos are those that a player shows, by every way of choosing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from clip_makers import video_clip
from people_media import (
    MATRICES,
    corners,
    cut_by_copy,
    encode,
    joined,
    numbers,
    picture,
    shown_by_ffmpeg,
    shown_by_pyav,
    with_matrix,
    without_packets,
)
from PIL import Image

from paramcast.device.errors import DeviceInputError
from paramcast.device.video import read_clips
from paramcast.video.data.collection import CollectionError
from paramcast.video.data.frames import read_frames, undecodable
from paramcast.video.data.sampling import uniform_indices


def long(folder: Path, gop: int = 250) -> Path:
    return encode(folder / "long.mp4", range(120), rate=15, gop=gop)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "cut by copy": lambda f: cut_by_copy(long(f), f / "cut.mp4", 4, 3),
    "cut by copy, short": lambda f: cut_by_copy(long(f), f / "cut.mov", 6.5, 0.9),
    "cut by copy, many keys": lambda f: cut_by_copy(long(f, 25), f / "cut.mp4", 2.2, 5),
    "joined": lambda f: joined(f, "joined.ts", range(20), range(20, 40)),
    "joined, three": lambda f: joined(f, "joined.ts", range(12), range(12, 31), range(31, 40)),
    "H.264 with B-frames in AVI": lambda f: encode(f / "a.avi", range(40), gop=20, bframes=3),
    "MPEG-4 with B-frames in AVI": lambda f: encode(f / "a.avi", range(40), codec="mpeg4", gop=20),
    "MJPEG in AVI": lambda f: encode(f / "a.avi", range(40), codec="mjpeg"),
    "no key at the start": lambda f: without_packets(
        encode(f / "w.ts", range(60), gop=10, bframes=0), f / "cut.ts", range(4)
    ),
    "a hole": lambda f: without_packets(
        encode(f / "w.ts", range(60), gop=10, bframes=0), f / "cut.ts", range(30, 37)
    ),
    "program stream": lambda f: encode(f / "a.mpg", range(40), codec="mpeg2video", rate=25, gop=12),
    "hidden frames": lambda f: encode(
        f / "a.webm", range(40), codec="libvpx", **{"auto-alt-ref": "1", "lag-in-frames": "16"}
    ),
    "raw": lambda f: encode(f / "a.h264", range(40)),
    "variable rate": lambda f: encode(
        f / "a.mp4", range(34), times=[33 * n for n in range(30)] + [1000 + 15000 * n for n in range(4)]
    ),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_uniform_takes_of_the_frames_that_are_shown(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path)
    shown = shown_by_pyav(path)
    clip = video_clip(path)
    for count in (8, 5, 1):
        assert numbers(read_frames(clip, count)) == [shown[i] for i in uniform_indices(len(shown), count)]
    assert numbers(read_frames(clip, 1000)) == shown
    assert undecodable(clip) == []
    theirs = shown_by_ffmpeg(path)
    if theirs is not None:
        assert numbers(theirs) == shown


@pytest.mark.parametrize("kind", ["cut by copy", "joined", "H.264 with B-frames in AVI"])
@pytest.mark.parametrize("sampling", ["time", "scene"])
def test_the_other_ways_see_the_same_frames(tmp_path: Path, kind: str, sampling: str) -> None:
    """At a constant rate all three ways are nearly one."""
    path = MAKERS[kind](tmp_path)
    shown = shown_by_pyav(path)
    found = numbers(read_frames(video_clip(path), 8, sampling))
    wanted = [shown[i] for i in uniform_indices(len(shown), 8)]
    assert len(found) == 8
    assert np.abs(np.array(found) - wanted).max() <= 2


@pytest.mark.parametrize("kind", MATRICES)
def test_every_display_matrix(tmp_path: Path, kind: str) -> None:
    path = with_matrix(encode(tmp_path / "b.mp4", range(6)), tmp_path / "m.mp4", *MATRICES[kind])
    # Where the corners red (0, 0), green (1, 0), blue (0, 1) and yellow (1, 1) go, by the matrix.
    a, b, c, d = MATRICES[kind]
    place = {}
    for name, x, y in (("r", -1, -1), ("g", 1, -1), ("b", -1, 1), ("y", 1, 1)):
        place[b * x + d * y, a * x + c * y] = name
    wanted = "".join(place[spot] for spot in sorted(place))
    (frame,) = read_frames(video_clip(path), 1)
    assert corners(frame) == wanted
    assert frame.shape == ((240, 320, 3) if a else (320, 240, 3))
    watched = next(read_clips(str(path), frames=1, seconds=0.5))
    np.testing.assert_array_equal(watched[0], read_frames(video_clip(path), 6)[2])
    theirs = shown_by_ffmpeg(path)
    if theirs is not None:
        assert corners(theirs[3]) == wanted


@pytest.mark.parametrize("sampling", ["uniform", "time", "scene"])
def test_an_animated_webp(tmp_path: Path, sampling: str) -> None:
    pictures = [Image.fromarray(picture(n)) for n in range(12)]
    pictures[0].save(
        tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=100, lossless=True
    )
    clip = video_clip(tmp_path / "a.webp")
    assert numbers(read_frames(clip, 4, sampling))[:4] == [1, 4, 7, 10]
    assert undecodable(clip) == []
    as_picture = replace(clip, video=None, frames=("a.webp",))
    with pytest.raises(CollectionError, match="an animation of 12 pictures; name it as `video`"):
        read_frames(as_picture)


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_time_counts_how_long_the_last_picture_rests(tmp_path: Path, ending: str) -> None:
    pictures = [Image.fromarray(picture(n)) for n in range(12)]
    path = tmp_path / f"a.{ending}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[40] * 11 + [2000])
    assert numbers(read_frames(video_clip(path), 8, "time")) == [3, 11]


def animated(path: Path, count: int = 12, **options: object) -> Path:
    pictures = [Image.fromarray(picture(n)) for n in range(count)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
def test_all_pictures_of_an_animation_are_there(tmp_path: Path, name: str) -> None:
    """Pillow writes GIFs without delays by default; AVIF has a still picture before the moving ones."""
    path = animated(tmp_path / name, **({"duration": 100} if name == "a.avif" else {}))
    assert numbers(read_frames(video_clip(path), 100)) == list(range(12))
    assert undecodable(video_clip(path)) == []
    watched = [n for clip in read_clips(str(path), frames=8, seconds=0.8) for n in numbers(clip)]
    if name != "a.png":  # whose pictures show for no time
        assert watched == list(range(12))


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
@pytest.mark.parametrize("delay", [0, 10, 100])
def test_pictures_without_delay_show_for_a_tenth_of_a_second(tmp_path: Path, name: str, delay: int) -> None:
    clip = replace(video_clip(animated(tmp_path / name, duration=delay)), start=0.3, end=0.6)
    assert numbers(read_frames(clip)) == [3, 4, 5]


def test_pictures_that_are_seen_through_lie_on_white(tmp_path: Path) -> None:
    pictures = [Image.new("RGBA", (64, 48), (0, 0, 0, 0)) for _ in range(2)]
    for place, each in enumerate(pictures):
        each.paste((220, 30, 30, 255), (0, 0, 8 + place, 8))
    path = tmp_path / "a.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    frames = read_frames(video_clip(path))
    assert frames.shape[0] == 2
    assert (frames[:, 40, 60] == 255).all()


def later(source: Path, seconds: float, target: Path) -> Path:
    """A copy whose clock starts later."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as part:
        stream = whole.streams.video[0]
        copy = part.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.size:
                packet.pts += int(seconds / packet.time_base)
                packet.dts += int(seconds / packet.time_base)
                packet.stream = copy
                part.mux(packet)
    return target


def leaping(folder: Path) -> Path:
    """A transport stream whose clock leaps an hour ahead, and back again."""
    data = b""
    for place, hours in enumerate((0, 1, 0)):
        part = encode(folder / f"{place}.ts", range(20 * place, 20 * place + 20), gop=10)
        data += later(part, 3600 * hours, folder / f"later-{place}.ts").read_bytes()
    (folder / "leaps.ts").write_bytes(data)
    return folder / "leaps.ts"


def test_a_clock_that_leaps_in_a_transport_stream_goes_on_from_where_it_was(tmp_path: Path) -> None:
    path = leaping(tmp_path)
    clip = video_clip(path)
    assert numbers(read_frames(clip, 100)) == list(range(60))
    assert numbers(read_frames(clip, 6, "time")) == [5, 15, 25, 35, 45, 55]
    assert numbers(read_frames(replace(clip, start=1.5, end=4.5))) == numbers(
        read_frames(replace(clip, start=1.5, end=4.5), 8)
    )
    watched = [n for clip in read_clips(str(path), frames=10, seconds=1.0) for n in numbers(clip)]
    assert watched == list(range(60))


def test_a_pause_in_other_files_is_one(tmp_path: Path) -> None:
    times = [100 * n for n in range(20)] + [60_000 + 100 * n for n in range(20)]
    clip = video_clip(encode(tmp_path / "a.mkv", range(40), times=times))
    assert numbers(read_frames(clip, 4, "time")) == [19]


@pytest.mark.parametrize(("codec", "bframes"), [("libx264", 2), ("mpeg4", 0), ("mjpeg", 0)])
def test_frames_that_an_avi_lacks_are_waited_for(tmp_path: Path, codec: str, bframes: int) -> None:
    """A recorder that drops frames writes empty packets: the pictures before them show for longer."""
    times = [100 * n for n in range(20)] + [3000 + 500 * n for n in range(8)]
    path = encode(tmp_path / "a.avi", range(28), codec=codec, bframes=bframes, times=times)
    clip = video_clip(path)
    assert numbers(read_frames(clip, 100)) == list(range(28))
    assert numbers(read_frames(replace(clip, start=1.55, end=4.75))) == [16, 17, 18, 19, 20, 21, 22, 23]


def test_a_raw_stream_has_the_rate_that_its_codec_says(tmp_path: Path) -> None:
    clip = video_clip(encode(tmp_path / "a.h264", range(40)))
    assert numbers(read_frames(replace(clip, start=1.0, end=1.4))) == [10, 11, 12, 13]


def test_the_stream_that_plays_is_neither_a_cover_nor_an_extra_one(tmp_path: Path) -> None:
    whole = encode(tmp_path / "w.mp4", range(12))
    Image.fromarray(picture(1023)).save(tmp_path / "cover.jpg")
    path = tmp_path / "covered.mp4"
    with (
        av.open(str(whole)) as film,
        av.open(str(tmp_path / "cover.jpg")) as art,
        av.open(str(path), "w") as to,
    ):
        cover = to.add_stream_from_template(art.streams.video[0])
        cover.disposition = Disposition.attached_pic
        copy = to.add_stream_from_template(film.streams.video[0])
        for source, stream in ((art, cover), (film, copy)):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    to.mux(packet)
    assert numbers(read_frames(video_clip(path), 100)) == list(range(12))
    assert numbers(next(read_clips(str(path), frames=4, seconds=1.2))) == [1, 4, 7, 10]


def test_what_is_shorter_than_a_moment_is_watched_too(tmp_path: Path) -> None:
    (clip,) = read_clips(str(encode(tmp_path / "a.mp4", range(1))), frames=8, seconds=4.0)
    assert numbers(clip) == [0]


def test_side_data_that_the_decoder_has_no_name_for(tmp_path: Path) -> None:
    """Photographs carry Exif, which PyAV does not know: they are read, and turned, all the same."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(5)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.mjpeg").write_bytes(2 * (tmp_path / "a.jpg").read_bytes())
    frames = read_frames(video_clip(tmp_path / "a.mjpeg"))
    assert frames.shape == (2, 320, 240, 3)
    assert corners(frames[0]) == "bryg"


@pytest.mark.parametrize("data", [b"", b"no video", b"GIF89a but not really"])
def test_what_cannot_be_watched_is_said_in_words(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(DeviceInputError, match=r"a\.mp4 cannot be read as video") as caught:
        next(read_clips(str(tmp_path / "a.mp4")))
    assert "Errno" not in str(caught.value)


SPANS = [(0.0, 1.0), (2.0, 3.5), (2.05, 2.95), (3.33, 3.34), (5.0, None), (None, 2.0), (7.9, 99.0)]


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv", "long.ts", "long.avi", "long.webm", "joined.ts"])
@pytest.mark.parametrize(("start", "end"), SPANS)
def test_start_and_end(tmp_path: Path, name: str, start: float | None, end: float | None) -> None:
    if name == "joined.ts":
        path = joined(tmp_path, name, range(30), range(30, 80))
    else:
        codec = "libvpx" if name.endswith("webm") else "libx264"
        path = encode(tmp_path / name, range(80), codec=codec, gop=12)
    clip = replace(video_clip(path), start=start, end=end)
    inside = [n for n in range(80) if (start or 0) - 1e-9 <= n / 10 < (end or 99) - 1e-9]
    inside = inside or [int(10 * (start or 0))]  # shorter than a frame: the one that shows
    for count in (1, 4, 100):
        assert numbers(read_frames(clip, count)) == [inside[i] for i in uniform_indices(len(inside), count)]
    assert set(numbers(read_frames(clip, 4, "time"))) <= set(inside)
    assert set(numbers(read_frames(clip, 4, "scene"))) <= set(inside)


def test_start_and_end_as_ffmpeg_cuts(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mp4", range(80), gop=25)
    theirs = shown_by_ffmpeg(path, "-ss", "2.05", "-to", "4.35")
    if theirs is None:
        pytest.skip("no ffmpeg on this machine")
    clip = replace(video_clip(path), start=2.05, end=4.35)
    assert numbers(read_frames(clip, 1000)) == numbers(theirs)


def test_a_start_behind_the_end_is_named(tmp_path: Path) -> None:
    clip = replace(video_clip(encode(tmp_path / "a.mp4", range(20))), start=2.5, end=3.0)
    with pytest.raises(CollectionError, match=r"start 2\.5 s lies after the end of the video, 2 s; correct"):
        read_frames(clip)
    assert undecodable(clip) == ["start 2.5 s lies after the end of the video, 2 s; correct start and end"]


@pytest.mark.parametrize("name", ["plain.mp4", "joined.ts", "a.avi", "a.gif"])
def test_watching_and_reading_see_the_same(tmp_path: Path, name: str) -> None:
    """A device that watches a file sees, clip by clip, what training sees of that span by time."""
    path = tmp_path / name
    if name == "joined.ts":
        joined(tmp_path, name, range(20), range(20, 40))
    elif name == "a.gif":
        pictures = [Image.fromarray(picture(n)) for n in range(40)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    else:
        encode(path, range(40))
    clips = list(read_clips(str(path), frames=4, seconds=1.0))
    spans = [replace(video_clip(path), start=float(n), end=n + 1.0) for n in range(4)]
    assert [numbers(clip) for clip in clips] == [[10 * n + k for k in (1, 3, 6, 8)] for n in range(4)]
    for clip, span in zip(clips, spans, strict=True):
        np.testing.assert_array_equal(clip, read_frames(span, 4, "time"))


@pytest.mark.parametrize(
    "data", [b"", b"<!DOCTYPE html><html>404</html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_what_is_no_video_is_called_by_its_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    (fault,) = undecodable(video_clip(tmp_path / "a.mp4"))
    word = {b"": "is empty", b"<": "web page", b"v": "Git LFS"}[data[:1]]
    assert word in fault
    assert "Errno" not in fault


def test_a_download_that_broke_off_is_said_so(tmp_path: Path) -> None:
    whole = encode(tmp_path / "w.mp4", range(60), gop=10, movflags="+faststart").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) * 7 // 10])
    (fault,) = undecodable(video_clip(tmp_path / "a.mp4"))
    assert "damaged or cut off" in fault
    assert "Errno" not in fault
