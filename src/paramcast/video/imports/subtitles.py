"""Importer of subtitles beside videos: SRT and WebVTT, one clip for each cue.

The files are parsed here and not by pysubs2: pysubs2 appends the comments of a WebVTT file to the cue before
them, and loses a last line that is a number (findings/pysubs2_notes_become_text.sh).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from paramcast.video.imports.job import Job, Record, read_text

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_SPAN = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")


def subtitles(job: Job) -> Iterator[Record]:
    """Read the subtitles of the video NAME: `NAME.srt` or `NAME.vtt` (also `NAME.en.srt`)."""
    for path in job.files("*.srt", "*.vtt", "*.SRT", "*.VTT"):
        video = job.video(path.stem, path.stem.rsplit(".", 1)[0])
        if video is None:
            continue
        for number, (start, end, text) in enumerate(cues(read_text(path)), start=1):
            if end <= start or not text:
                job.lost["cues without text or time"] += 1
                continue
            yield {
                "id": f"{path.stem}_{number:04}",
                "video": video,
                "start": start,
                "end": end,
                "captions": [text],
                "source": Path(video).stem,
            }


def cues(text: str) -> Iterator[tuple[float, float, str]]:
    """Yield start and end in seconds and the text, on one line and without markup, of every cue."""
    for block in re.split(r"\n[^\S\n]*\n", re.sub(r"\r\n?", "\n", text).lstrip("\ufeff")):
        lines = block.strip("\n").split("\n")
        if re.match(r"(NOTE|STYLE|REGION)(\s|$)", lines[0]):
            continue
        begins = [place for place, line in enumerate(lines) if _SPAN.match(line)]
        for begin, after in zip(begins, [*begins[1:], None], strict=False):
            found = _SPAN.match(lines[begin])
            assert found is not None
            said = lines[begin + 1 : after]
            if after is not None and said and said[-1].strip().isdecimal():  # number of the next cue
                said.pop()
            plain = " ".join(_TAG.sub(" ", " ".join(said)).split())
            yield _seconds(found.groups()[:4]), _seconds(found.groups()[4:]), html.unescape(plain)


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    return round(
        int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{fraction}"), 3
    )
