"""Clips and questions, and what can be wrong with them."""

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
    """A question about a clip and its answer, both not blank.

    Attributes:
        question: The question.
        answer: The right answer; of several, the one that was given most often.
        answers: All that were given, where there are several: any of them is right.
        options: The data set's own answers to choose from, the right one among them; empty where it has none.
        kind: What kind of question it is, where the data set says so.
        extra: The keys that paramcast does not know, as they were read.
    """

    question: str
    answer: str
    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    kind: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def right(self) -> tuple[str, ...]:
        """Every answer that was given, in order, as often as it was."""
        return self.answers or (self.answer,)


@dataclass(frozen=True)
class Clip:
    """One video, or a part of one: a file or a folder of ordered frames, with what is known about it.

    Exactly one of `frames` (not empty) and `video` is set; both hold paths relative to `root`. `line` is the
    line number in `clips.jsonl`, from 1. `frame_captions` is empty or has one sentence a frame. `start` and
    `end` are seconds within the video; None is its own. `split` is that of the data set, one of SPLITS.
    `source` names what the clip is cut from. `extra` holds the keys that paramcast does not know, as they
    were read. `made` says that the questions are not the data set's own.
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
        """A CollectionError that names this clip and its line."""
        return CollectionError(self.root, Problem(self.line, self.id, message))
