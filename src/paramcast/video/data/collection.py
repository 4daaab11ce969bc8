"""Collections: a folder with `clips.jsonl`, one clip per line, read strictly and without decoding."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from paramcast.video.data.clip import CLIPS_FILE, SPLITS, Clip, CollectionError, Problem, Question
from paramcast.video.data.groups import groups
from paramcast.video.data.lines import parse_line
from paramcast.video.data.options import Distractors

__all__ = [
    "CLIPS_FILE",
    "Clip",
    "Collection",
    "CollectionError",
    "Problem",
    "Question",
    "missing_files",
    "parse_line",
    "read_lines",
]


@dataclass(frozen=True)
class Collection:
    """Clips of a folder, in the order of its `clips.jsonl`."""

    root: Path
    name: str
    clips: tuple[Clip, ...]
    by_id: dict[str, Clip] = field(repr=False, compare=False)

    @classmethod
    def open(cls, path: Path | str, skipped: list[Problem] | None = None) -> Collection:
        """Read the collection in folder `path`; every file must exist, and none is decoded.

        Args:
            path: The folder.
            skipped: List that receives the problems; lines with problems are then left out. None: the first
                problem is raised.

        Raises:
            CollectionError: `clips.jsonl` is missing or has no usable clip, or `skipped` is None and a line
                is wrong. The message names the first wrong line, its clip, the fault and how to correct it.
        """
        root = Path(path)
        clips = []
        for found in read_lines(root):
            problems = found if isinstance(found, list) else missing_files(found)
            if problems and skipped is None:
                raise CollectionError(root, problems[0])
            if problems:
                assert skipped is not None
                skipped += problems
                continue
            assert isinstance(found, Clip)
            clips.append(found)
        if not clips:
            wrong = f" that can be used ({skipped[0]})" if skipped else "; write one JSON object per line"
            raise CollectionError(root, f"{root / CLIPS_FILE} has no clips{wrong}")
        return cls(root, root.resolve().name, tuple(clips), {clip.id: clip for clip in clips})

    @cached_property
    def groups(self) -> dict[str, str]:
        """Clip id -> name of the clip's group, see `groups.groups`.

        With fewer groups than splits, no group could be kept for testing: then each clip is its own group.
        """
        found = groups(self.clips)
        return found if len(set(found.values())) >= len(SPLITS) else {clip.id: clip.id for clip in self.clips}

    @cached_property
    def distractors(self) -> Distractors:
        """Wrong options for questions without options."""
        return Distractors(self.clips)

    def without(self, ids: Iterable[str]) -> Collection:
        """Return the collection without the clips with these ids."""
        left_out = set(ids)
        clips = tuple(clip for clip in self.clips if clip.id not in left_out)
        return Collection(self.root, self.name, clips, {clip.id: clip for clip in clips})

    def extended(self, clips: Iterable[Clip]) -> Collection:
        """Return the collection with further clips; their ids must be new."""
        more = tuple(clips)
        by_id = self.by_id | {clip.id: clip for clip in more}
        return Collection(self.root, self.name, self.clips + more, by_id)


def read_lines(root: Path) -> Iterator[Clip | list[Problem]]:
    """Yield the clip of each line of `clips.jsonl` in `root`, or all problems of the line.

    Blank lines are skipped.

    Raises:
        CollectionError: the file cannot be read.
    """
    first_line: dict[str, int] = {}
    try:
        with (root / CLIPS_FILE).open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                if not raw.strip():
                    continue
                found = parse_line(root, number, raw)
                if isinstance(found, Clip) and (before := first_line.setdefault(found.id, number)) != number:
                    message = f"the id is already that of line {before}; ids must be unique"
                    found = [Problem(number, found.id, message)]
                yield found
    except OSError as error:
        message = (
            f"cannot read {root / CLIPS_FILE} ({error.strerror}); a collection is a folder with {CLIPS_FILE}"
        )
        raise CollectionError(root, message) from error


def missing_files(clip: Clip) -> list[Problem]:
    """Return a problem for each file that `clip` names and that does not exist."""
    return [
        Problem(clip.line, clip.id, f"missing file {path}; {_found_instead(path, name)}")
        for path, name in zip(clip.paths, clip.frames or (clip.video or "",), strict=True)
        if not path.is_file()
    ]


def _found_instead(path: Path, name: str) -> str:
    """Suggest how to correct a missing file."""
    if "://" in name:
        return "addresses are not fetched: download the file into the folder and name it there"
    if "%0" in name or "*" in name:
        return "patterns are not filled in: list the pictures one by one under `frames`"
    if path.is_dir():
        return "it is a folder: list its pictures one by one under `frames`"
    if "\\" in name and path.parents[0].joinpath(*name.split("\\")).is_file():
        return f"write the path with slashes: {name.replace(chr(92), '/')}"
    names = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    for form in ("NFC", "NFD"):
        if unicodedata.normalize(form, path.name) in names:
            return (
                f"a file of this name exists in other bytes (Unicode {form}); rename it or correct the line"
            )
    for other in names:
        if other.casefold() == path.name.casefold():
            return f"there is {other}: upper and lower case differ"
        if Path(other).stem == path.name:
            return f"there is {other}: give the whole name"
    return "restore it or remove it from the line"
