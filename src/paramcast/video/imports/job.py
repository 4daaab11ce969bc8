"""Code that all importers share: finding videos, writing records and counting lost data."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from paramcast.errors import InputError
from paramcast.files import replacing
from paramcast.video.data.clip import CLIPS_FILE, Clip
from paramcast.video.data.lines import parse_line

VIDEOS = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".wmv",
        ".flv",
        ".ogv",
        ".3gp",
        ".gif",
        ".webp",
    ]
)
"""Endings of video files."""

Record = dict[str, Any]
"""A line of `clips.jsonl`."""


@dataclass
class Job:
    """One import.

    Attributes:
        source: A folder or file with annotations, or the name of shards or of a data set on a hub.
        videos: The folder with the video files.
        out: The collection's folder.
        columns: For tables: key of a clip -> the names of the columns that hold it.
        lost: Description of data that is not imported -> how often it occurs.
    """

    source: str
    videos: Path
    out: Path
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)

    @property
    def folder(self) -> Path:
        """The source as a folder of annotation files.

        Raises:
            InputError: The source is not a folder.
        """
        path = Path(self.source)
        if not path.is_dir():
            raise InputError(f"{path} is no folder; give the one with the annotation files")
        return path

    def files(self, *patterns: str) -> list[Path]:
        """Find the annotation files that match any of these patterns, anywhere in the source.

        Raises:
            InputError: There is no such file.
        """
        found = sorted({path for pattern in patterns for path in self.folder.rglob(pattern)})
        if not found:
            raise InputError(f"{self.source} has no file named {' or '.join(patterns)}; is it this format?")
        return found

    def video(self, *names: str) -> str | None:
        """Find the first of `names` (with or without ending) that exists; return its path in the collection.

        If no video is found, return None and count the clip as lost.
        """
        for name in names:
            path = Path(name)
            # The annotations may give a path on another machine, and another ending than the file has.
            short = (path.name, path.stem) if path.suffix.lower() in VIDEOS else (path.name,)
            found = next((self._known[each] for each in (name, *short) if each in self._known), [])
            if len(found) == 1:
                return self._inside(found[0])
            if found:
                self.lost[f"clips whose video could be any of several: {', '.join(map(str, found))}"] += 1
                return None
        self.lost[f"clips whose video is not in {self.videos}"] += 1
        return None

    def all_videos(self) -> list[Path]:
        """List the video files, relative to their folder, sorted, without hidden files."""
        files = (path for path in self.videos.rglob("*") if path.suffix.lower() in VIDEOS and path.is_file())
        inside = (path.relative_to(self.videos) for path in files)
        return sorted(
            path for path in inside if not any(part.startswith((".", "__MACOSX")) for part in path.parts)
        )

    def inside(self, video: Path) -> str:
        """Return the path in the collection of a video of `all_videos`."""
        return self._inside(video)

    @cached_property
    def _known(self) -> dict[str, list[Path]]:
        """Map from name, name without ending, path, and path without ending to the paths of videos."""
        if not self.videos.is_dir():
            raise InputError(f"{self.videos} is no folder; give the folder of the video files with --videos")
        known: dict[str, list[Path]] = {}
        videos = self.all_videos()
        for path in videos:
            for name in {str(path.with_suffix("")), path.stem, path.name}:
                known.setdefault(name, []).append(path)
        return known | {str(path): [path] for path in videos}

    def _inside(self, video: Path) -> str:
        """Return the path of a video in the collection; link the videos' folder if it is elsewhere."""
        root, videos = self.out.resolve(), self.videos.resolve()
        if videos.is_relative_to(root):
            return (videos.relative_to(root) / video).as_posix()
        link = root / "videos"
        if not link.exists():
            root.mkdir(parents=True, exist_ok=True)
            link.symlink_to(videos, target_is_directory=True)
        elif link.resolve() != videos:
            raise InputError(f"{link} is there already, and leads elsewhere; choose another --out")
        return (Path("videos") / video).as_posix()


def write_records(job: Job, records: Iterable[Record]) -> Counter[str]:
    """Write the collection, completely or not at all, and return the counts of its content.

    Raises:
        InputError: No clip was found.
    """
    kept: Counter[str] = Counter()
    with replacing(job.out / CLIPS_FILE) as path, path.open("w", encoding="utf-8") as lines:
        for record in _usable(job, records):
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            kept["clips"] += 1
            kept["captions"] += len(record.get("captions", ()))
            kept["questions"] += len(record.get("qa", ()))
            kept["questions with options"] += sum("options" in each for each in record.get("qa", ()))
            kept["clips with start and end"] += "start" in record
            if "split" in record:
                kept[f"clips for {record['split']}"] += 1
        if not kept["clips"]:
            why = "".join(f"; {count} {what}" for what, count in job.lost.items())
            raise InputError(f"nothing was found in {job.source}{why}")
    return +kept


def _usable(job: Job, records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records that are valid lines, without faulty questions and with unique ids."""
    seen: Counter[str] = Counter()
    first: dict[str, str] = {}  # kind of fault -> its first message

    def right(record: Record, what: str) -> bool:
        found = parse_line(Path(), 1, json.dumps(record).encode())
        if isinstance(found, Clip):
            return True
        message = found[0].message.replace("qa[0].", "")
        kind = re.sub(r"'[^']*'|\d+", "", message)
        job.lost[first.setdefault(f"{what} {kind}", f"{what} that cannot be used: {message}")] += 1
        return False

    for record in records:
        if right({**record, "qa": []}, "clips"):
            name = str(record["id"])
            seen[name] += 1
            own: Record = {"id": name if seen[name] == 1 else f"{name}-{seen[name]}"}
            if "qa" in record:
                own["qa"] = [each for each in record["qa"] if right({**record, "qa": [each]}, "questions")]
            yield {**record, **own}


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, UTF-16 (with byte order mark) or, if it is neither, Windows-1252."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def split_of(path: Path) -> str | None:
    """Find the split in a file's name, such as 'train_qa.json' or 'LSMDC16_annos_training.csv'."""
    words = set(re.split(r"[^a-z]+", re.sub(r"\d+", "", path.stem.lower())))
    for split, names in {
        "train": {"train", "training"},
        "validation": {"val", "valid", "validation", "dev"},
        "test": {"test", "testing"},
    }.items():
        if words & names:
            return split
    return None


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises InputError."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from error


def by_clip(found: Iterable[tuple[str, Record]]) -> Iterator[Record]:
    """Join the parts of each clip: lists are concatenated without repetitions, else the first value stays.

    Args:
        found: (id, part of a record) in any order.
    """
    clips: dict[str, Record] = {}
    for clip_id, part in found:
        clip = clips.setdefault(clip_id, {"id": clip_id})
        for key, value in part.items():
            if isinstance(value, list) and key in clip:
                clip[key] += [each for each in value if each not in clip[key]]
            elif value is not None:
                clip.setdefault(key, value)
    yield from clips.values()
