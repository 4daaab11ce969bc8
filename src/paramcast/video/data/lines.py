"""Strict parser of a line of `clips.jsonl`; it reports all faults of the line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from paramcast.video.data.answers import most_given, normalized
from paramcast.video.data.clip import SPLITS, Clip, Problem, Question

_SPLITS = {name: name for name in SPLITS} | {
    "training": "train",
    "trn": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "testing": "test",
    "tst": "test",
    "eval": "validation",
}


def parse_line(root: Path, number: int, raw: bytes) -> Clip | list[Problem]:
    """Parse line `number`: return its clip, or a list (never empty) of all its problems."""
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        record = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return [Problem(number, None, f"not a line of JSON ({error}); write one object per line, in UTF-8")]
    if not isinstance(record, dict):
        return [Problem(number, None, f"a line must be a JSON object, this one is {_kind(record)}")]
    fields = _Fields(record)
    clip = fields.clip(root, number)
    name = fields.name or (record["id"] if isinstance(record.get("id"), str) else None)
    return [Problem(number, name, fault) for fault in fields.faults] or clip


def _place(answer: object, options: tuple[str, ...]) -> int | None:
    """Return the index of an option that `answer` gives as int or digits; None if it is a text to compare."""
    if not options or isinstance(answer, bool):
        return None
    if isinstance(answer, str) and answer.strip().isdecimal():
        return None if normalized(answer) in map(normalized, options) else int(answer)
    return answer if isinstance(answer, int) and answer >= 0 else None


_CLOCK = re.compile(r"\s*(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)\s*")


def clock(text: str) -> float | None:
    """Convert a text such as '62.5', '1:02.5' or '00:01:02,5' to seconds; None if it is no time."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    hours, minutes, seconds = found.groups()
    return round(3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds.replace(",", ".")), 6)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return record


def _written(value: object) -> object:
    """Convert a number to text; return anything else unchanged."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _whole(value: object) -> object:
    """Convert a whole number to text; return anything else unchanged."""
    return _written(value) if isinstance(value, int) else value


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys) or "no key"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _kind(value: object) -> str:
    """Return the name of the type of `value` in JSON."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")


class _Fields:
    """Reader of the known keys of a line's object; it collects all faults and does not stop at the first."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.left = dict(record)
        self.faults: list[str] = []
        self.name: str | None = None
        self._keys = list(record)

    def clip(self, root: Path, line: int) -> Clip:
        """Build the clip; it is valid only if there are no faults."""
        if "id" in self.left:
            self.name = self._text("id", _whole(self.left.pop("id")))
        else:
            self._fault(f"id is missing; the line has {_listed(self._keys)}")
        name = self.name or ""
        frames, video = self._sources()
        captions = self._texts("captions")
        frame_captions = self._texts("frame_captions")
        if frame_captions and len(frame_captions) != len(frames):
            self._fault(
                f"{len(frame_captions)} frame_captions for {len(frames)} frames; give one per frame, or none"
            )
        qa = tuple(filter(None, map(self._question, *self._numbered("qa"))))
        category = self._label("category")
        if category is None:  # if there is a category, `domain` is an unknown key
            category = self._label("domain")
        device = self._label("device")
        start, end = self._span(video)
        split, source = self._split(), self._label("source")
        return Clip(
            name,
            root,
            line,
            frames,
            video,
            captions,
            frame_captions,
            qa,
            category,
            device,
            self.left,
            start,
            end,
            split,
            source,
        )

    def _span(self, video: str | None) -> tuple[float | None, float | None]:
        """Read start and end in seconds; null and missing are None."""
        start, end = self._seconds("start"), self._seconds("end")
        if (start, end) != (None, None) and video is None:
            self._fault(
                "start and end are seconds of a video; for pictures, list only the pictures of the clip"
            )
        if end is not None and end <= (start or 0.0):
            self._fault(f"end {end:g} must be later than start {start or 0:g}; both are seconds of the file")
        return start, end

    def _seconds(self, key: str) -> float | None:
        value = self.left.pop(key, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            meant = clock(value) if isinstance(value, str) else None
            instead = "" if meant is None else f"; write {meant:g}"
            self._fault(f"{key} must be a number of seconds, not {_kind(value)}{instead}")
        elif not 0 <= value < math.inf or value > 1e9:
            self._fault(f"{key} must be seconds from the start of the file, not {value}")
        else:
            return float(value)
        return None

    def _split(self) -> str | None:
        value = self.left.pop("split", None)
        if value is None:
            return None
        if not isinstance(value, str) or value.strip().lower() not in _SPLITS:
            self._fault(f"split must be one of {', '.join(SPLITS)}, not {value!r:.40}")
            return None
        return _SPLITS[value.strip().lower()]

    def _fault(self, message: str) -> None:
        self.faults.append(message)

    def _text(self, key: str, value: object) -> str | None:
        """Return `value` if it is text that is not blank and can be stored, else note a fault."""
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
        """Return names and values of the list at `key`; missing and null are the empty list."""
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
        left = dict(value)
        for needed in ("question", "answer"):
            if needed not in left and not (needed == "answer" and "answers" in left):
                self._fault(f"{key}.{needed} is missing; the question has {_listed(list(value))}")
                return None
        question = self._text(f"{key}.question", left.pop("question"))
        options = self._options(key, left.pop("options", None))
        several = left.pop("answers", None)
        given = left.pop("answer", several)
        if several is not None and given is not several:
            self._fault(f"{key} has both answer and answers; give one of the two")
        answers = self._answers(key, given, options)
        kind = left.pop("type", None)
        if kind is not None and not isinstance(kind, str | int):
            self._fault(f"{key}.type must be a string, not {_kind(kind)}")
        if not question or not answers:
            return None
        answer = most_given(answers)
        if options and normalized(answer) not in map(normalized, options):
            self._fault(
                f"{key}.answer {answer!r} is none of its options; add it, or give the index of the option"
            )
        return Question(
            question,
            answer,
            answers if len(answers) > 1 else (),
            options,
            None if kind is None else str(kind),
            left,
        )

    def _options(self, key: str, value: object) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) < 2:
            self._fault(f"{key}.options must be a list of two answers or more")
            return ()
        options = [self._text(f"{key}.options[{place}]", option) for place, option in enumerate(value)]
        texts = tuple(option for option in options if option is not None)
        if len(set(map(normalized, texts))) < len(texts):
            self._fault(f"{key}.options holds an answer twice; options must differ")
        return texts if len(texts) == len(value) else ()

    def _answers(self, key: str, given: object, options: tuple[str, ...]) -> tuple[str, ...]:
        """Read all answers of a question; if there are options, a number is the index of one, from 0."""
        if isinstance(given, list):
            if not given:
                self._fault(f"{key}.answers is an empty list; give at least one answer")
            named = [(f"{key}.answers[{place}]", answer) for place, answer in enumerate(given)]
        else:
            named = [(f"{key}.answer", given)]
        found = []
        for name, answer in named:
            place = _place(answer, options)
            if place is None:
                found.append(self._text(name, answer if options else _written(answer)))
            elif place < len(options):
                found.append(options[place])
            else:
                self._fault(f"{name} is {answer}, but there are {len(options)} options, counted from 0")
        return tuple(answer.strip() for answer in found if answer is not None)

    def _label(self, key: str) -> str | None:
        """Read a string or a whole number as a string; missing and null are None."""
        value = self.left.pop(key, None)
        return None if value is None else self._text(key, _whole(value))

    def _sources(self) -> tuple[tuple[str, ...], str | None]:
        """Read frames and video: exactly one of them, relative and inside the collection."""
        video = self.left.pop("video", None)
        if (self.left.get("frames") is None) == (video is None):
            self.left.pop("frames", None)
            both = "and not both" if video is not None else f"and the line has {_listed(self._keys)}"
            self._fault(f"a clip needs either frames or video, {both}")
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
        # Check the path by the rules of POSIX and of Windows: it must stay inside the folder on both systems.
        readings = PurePosixPath(path), PureWindowsPath(path)
        if any(reading.anchor or ".." in reading.parts for reading in readings):
            self._fault(
                f"{key} {path!r} leaves the collection folder; use a path inside it, without '..'; "
                "a symbolic link in the folder may point to files elsewhere"
            )
            return None
        return path
