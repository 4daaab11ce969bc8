"""Clips, questions and the problems of a collection."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paramcast.errors import InputError

CLIPS_FILE = "clips.jsonl"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Problem:
    """A fault of a collection: where it is and how to correct it."""

    line: int
    id: str | None
    message: str

    def __str__(self) -> str:
        clip = "" if self.id is None else f"clip {self.id!r}: "
        return f"{CLIPS_FILE}:{self.line}: {clip}{self.message}"


class CollectionError(InputError):
    """A collection cannot be used; `problem` names line and clip, or is None if the folder is wrong."""

    def __init__(self, root: Path, problem: Problem | str) -> None:
        super().__init__(problem if isinstance(problem, str) else f"{root}{os.sep}{problem}")
        self.problem = problem if isinstance(problem, Problem) else None


@dataclass(frozen=True)
class Question:
    """A question about a clip and its answer, both not blank.

    Attributes:
        question: The question.
        answer: The right answer; if there are several, the most frequent one.
        answers: All given answers if there are several, each of them right; else empty.
        options: The data set's answers to choose from, the right one among them; empty if it has none.
        kind: The kind of the question, if the data set names one.
        extra: The keys that paramcast does not know, unchanged.
    """

    question: str
    answer: str
    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    kind: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def right(self) -> tuple[str, ...]:
        """All given answers, in order, with repetitions."""
        return self.answers or (self.answer,)


@dataclass(frozen=True)
class Clip:
    """A video or a part of a video, as a file or as ordered frames, with its texts and labels.

    Exactly one of `frames` (not empty) and `video` is set; both hold paths relative to `root`. `line` is the
    line number in `clips.jsonl`, from 1. `frame_captions` is empty or has one sentence for each frame.
    `start` and `end` are seconds within the video; None is the start or end of the video. `split` is the
    split of the data set, one of SPLITS. `source` names the video that the clip was cut from. `extra` holds
    the keys that paramcast does not know, unchanged. `made` is True if the questions were made from captions.
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
    start: float | None = None
    end: float | None = None
    split: str | None = None
    source: str | None = None
    made: bool = False

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the clip, in order: its frames, or the one video."""
        return tuple(self.root / name for name in self.frames or (self.video or "",))

    def error(self, message: str) -> CollectionError:
        """Make a CollectionError that names this clip and its line."""
        return CollectionError(self.root, Problem(self.line, self.id, message))
