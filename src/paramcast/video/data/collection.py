"""Collections: a folder with `clips.jsonl`, a clip a line, read strictly and without decoding anything."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from paramcast.errors import InputError

CLIPS_FILE = "clips.jsonl"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a collection: where it is and how to mend it."""

    line: int
    id: str | None
    message: str

    def __str__(self) -> str:
        clip = "" if self.id is None else f"clip {self.id!r}: "
        return f"{CLIPS_FILE}:{self.line}: {clip}{self.message}"


class CollectionError(InputError):
    """A collection cannot be used; `problem` names line and clip, None when the folder itself is wrong."""

    def __init__(self, root: Path, problem: Problem | str) -> None:
        super().__init__(problem if isinstance(problem, str) else f"{root}{os.sep}{problem}")
        self.problem = problem if isinstance(problem, Problem) else None


@dataclass(frozen=True)
class Question:
    """A question about a clip and its answer, both not blank."""

    question: str
    answer: str


@dataclass(frozen=True)
class Clip:
    """One video: a file or a folder of ordered frames, with what is known about it.

    Exactly one of `frames` (not empty) and `video` is set; both hold paths relative to `root`. `line` is the
    line number in `clips.jsonl`, from 1. `frame_captions` is empty or has one sentence a frame. `extra` holds
    the keys that paramcast does not know, as they were read.
    """

    id: str
    root: Path
    line: int
    frames: tuple[str, ...] = ()
    video: str | None = None
    captions: tuple[str, ...] = ()
    frame_captions: tuple[str, ...] = ()
    qa: tuple[Question, ...] = ()
    category: str | None = None
    device: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the clip, in order: its frames, or the one video."""
        return tuple(self.root / name for name in self.frames or (self.video or "",))

    def error(self, message: str) -> CollectionError:
        """A CollectionError that names this clip and its line."""
        return CollectionError(self.root, Problem(self.line, self.id, message))


@dataclass(frozen=True)
class Collection:
    """The clips of a folder, in the order of its `clips.jsonl`."""

    root: Path
    name: str
    clips: tuple[Clip, ...]
    by_id: dict[str, Clip] = field(repr=False, compare=False)

    @classmethod
    def open(cls, path: Path | str) -> Collection:
        """Read the collection in folder `path`; every file must be there, none is decoded.

        Raises:
            CollectionError: `clips.jsonl` is missing or empty, or a line of it is wrong: the first such line
                is named with its clip, what is wrong and how to mend it.
        """
        root = Path(path)
        clips = []
        for found in read_lines(root):
            problems = found if isinstance(found, list) else missing_files(found)
            if problems:
                raise CollectionError(root, problems[0])
            assert isinstance(found, Clip)
            clips.append(found)
        if not clips:
            raise CollectionError(root, f"{root / CLIPS_FILE} has no clips; write one JSON object a line")
        return cls(root, root.resolve().name, tuple(clips), {clip.id: clip for clip in clips})

    def extended(self, clips: Iterable[Clip]) -> Collection:
        """The same with further clips, whose ids are new."""
        more = tuple(clips)
        by_id = self.by_id | {clip.id: clip for clip in more}
        return Collection(self.root, self.name, self.clips + more, by_id)


def read_lines(root: Path) -> Iterator[Clip | list[Problem]]:
    """Yield for each line of `root`'s `clips.jsonl` its clip, or all that is wrong with the line.

    Blank lines are skipped.

    Raises:
        CollectionError: the file cannot be read at all.
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
    """A problem for each file that `clip` names and that is not there."""
    return [
        Problem(clip.line, clip.id, f"missing file {path}; restore it or remove it from the line")
        for path in clip.paths
        if not path.is_file()
    ]


def parse_line(root: Path, number: int, raw: bytes) -> Clip | list[Problem]:
    """The clip that line `number` describes, or (never empty) all that is wrong with the line."""
    try:
        record = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return [Problem(number, None, f"not a line of JSON ({error}); write one object a line, in UTF-8")]
    if not isinstance(record, dict):
        return [Problem(number, None, f"a line must be a JSON object, this one is {_kind(record)}")]
    fields = _Fields(record)
    clip = fields.clip(root, number)
    name = record["id"] if isinstance(record.get("id"), str) else None
    return [Problem(number, name, fault) for fault in fields.faults] or clip


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _kind(value: object) -> str:
    """What JSON calls the type of `value`."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")


class _Fields:
    """Takes the known keys out of a line's object and notes every fault instead of stopping at the first."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.left = dict(record)
        self.faults: list[str] = []

    def clip(self, root: Path, line: int) -> Clip:
        """The clip; meaningful only while there are no faults."""
        name = self._text("id", self.left.pop("id", None)) or ""
        frames, video = self._sources()
        captions = self._texts("captions")
        frame_captions = self._texts("frame_captions")
        if frame_captions and len(frame_captions) != len(frames):
            self._fault(
                f"{len(frame_captions)} frame_captions for {len(frames)} frames; give one a frame, or none"
            )
        qa = tuple(filter(None, map(self._question, *self._numbered("qa"))))
        category = self._label("category")
        if category is None:  # beside a category, a domain is an unknown key like any other
            category = self._label("domain")
        device = self.left.pop("device", None)
        device = device if device is None else self._text("device", device)
        return Clip(
            name, root, line, frames, video, captions, frame_captions, qa, category, device, self.left
        )

    def _fault(self, message: str) -> None:
        self.faults.append(message)

    def _text(self, key: str, value: object) -> str | None:
        """`value` when it is text that is not blank and can be stored, else None and a fault."""
        if not isinstance(value, str):
            self._fault(f"{key} must be a string, not {_kind(value)}")
        elif not value.strip():
            self._fault(f"{key} is blank; fill it in or remove it")
        elif "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            self._fault(f"{key} holds a zero byte or half of a surrogate pair; write plain text")
        else:
            return value
        return None

    def _numbered(self, key: str) -> tuple[list[str], list[Any]]:
        """Names and values of the list at `key`; missing and null are the empty list."""
        value = self.left.pop(key, None)
        if value is None:
            return [], []
        if not isinstance(value, list):
            self._fault(f"{key} must be a list, not {_kind(value)}")
            return [], []
        return [f"{key}[{place}]" for place in range(len(value))], value

    def _texts(self, key: str) -> tuple[str, ...]:
        return tuple(text for text in map(self._text, *self._numbered(key)) if text is not None)

    def _question(self, key: str, value: object) -> Question | None:
        if not isinstance(value, dict):
            self._fault(f"{key} must be an object with question and answer, not {_kind(value)}")
            return None
        question, answer = (self._text(f"{key}.{part}", value.get(part)) for part in ("question", "answer"))
        return Question(question, answer) if question and answer else None

    def _label(self, key: str) -> str | None:
        """A string or a whole number as a string; missing and null are None."""
        value = self.left.pop(key, None)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return None if value is None else str(value)
        return self._text(key, value)

    def _sources(self) -> tuple[tuple[str, ...], str | None]:
        """Frames and video: exactly one of the two, relative and inside the collection."""
        video = self.left.pop("video", None)
        if (self.left.get("frames") is None) == (video is None):
            self.left.pop("frames", None)
            self._fault("a clip needs either frames or video, and not both")
            return (), None
        if video is not None:
            self.left.pop("frames", None)
            return (), self._path("video", video)
        names, values = self._numbered("frames")
        if values == [] and not self.faults:
            self._fault("empty clip: frames is an empty list; name at least one frame or remove the line")
        return tuple(path for path in map(self._path, names, values) if path is not None), None

    def _path(self, key: str, value: object) -> str | None:
        path = self._text(key, value)
        if path is None:
            return None
        # Both readings of the path: a collection made on one system must not reach outside on the other.
        readings = PurePosixPath(path), PureWindowsPath(path)
        if any(reading.anchor or ".." in reading.parts for reading in readings):
            self._fault(f"{key} {path!r} leaves the collection folder; use a path inside it, without '..'")
            return None
        return path
