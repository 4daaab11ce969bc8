"""Importers of a folder of videos and of tables: CSV, TSV and Parquet."""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import accumulate, chain, count
from pathlib import Path, PurePosixPath
from typing import Any

from paramcast.errors import InputError, MissingExtraError
from paramcast.video.data.lines import clock
from paramcast.video.imports.job import Job, Record, by_clip, read_text

KEYS = (
    "id",
    "video",
    "captions",
    "question",
    "answer",
    "options",
    "type",
    "category",
    "device",
    "start",
    "end",
    "split",
    "source",
)
"""The keys that a column of a table may hold."""

_NAMES = dict.fromkeys(
    ("caption", "sentence", "sentences", "text", "description"), "captions"
) | dict.fromkeys(("path", "file", "filename", "file_name", "video_path", "video_id"), "video")


def folder(job: Job) -> Iterator[Record]:
    """Read videos in folders named by category; `NAME.txt` may hold a video's captions, one per line."""
    for path in job.all_videos():
        record: Record = {"id": path.with_suffix("").as_posix(), "video": job.inside(path)}
        if path.parent.name:
            record["category"] = path.parent.name
        text = (job.videos / path).with_suffix(".txt")
        if text.is_file():
            said = [line.strip() for line in text.read_text(encoding="utf-8-sig").splitlines()]
            record["captions"] = [line for line in said if line]
        yield record


Place = tuple[str, float | None, float | None]
"""A video with start and end in seconds, None for the video's own."""


def table(job: Job) -> Iterator[Record]:
    """Read a table in CSV, TSV or Parquet; rows with equal ids are one clip.

    The default id consists of the name of the video and the start.
    """
    path = Path(job.source)
    if not path.is_file():
        raise InputError(f"{path} is no file; give a table: .csv, .tsv or .parquet")
    rows = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    return by_clip(_parts(job, rows))


def _parts(job: Job, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Record]]:
    columns: dict[str, tuple[str, ...]] | None = None
    places: dict[str, Place] = {}
    ids: dict[Place, str] = {}
    for row in rows:
        if columns is None:
            columns = columns_of(job, list(row))
            if "video" not in columns:
                raise InputError(
                    f"no column of {job.source} is known to hold the video's file: give --column video=NAME "
                    f"(there are {', '.join(row)})"
                )
        record = record_of(row, columns)
        name = record.pop("video", None)
        video = job.video(str(name)) if name else None
        if video is None:
            continue
        place = video, record.get("start"), record.get("end")
        clip_id = record.pop("id", None) or ids.get(place) or _free_id(place, places)
        if places.setdefault(clip_id, place) != place:
            job.lost["rows whose id belongs to another video or another part of it"] += 1
            continue
        ids[place] = clip_id
        yield clip_id, {"video": video, **record}


def _free_id(place: Place, taken: Container[str]) -> str:
    """Make a name of a video's file, and of its times and folder where other clips have shorter names."""
    video, start, end = place
    path = PurePosixPath(video)
    span = "" if start is None else f"_{start:.12g}"
    if end is not None and path.stem + span in taken:
        span += f"_{end:.12g}"
    names = accumulate(reversed(path.with_suffix("").parts), lambda name, folder: f"{folder}_{name}")
    tries = chain((f"{name}{span}" for name in names), (f"{path.stem}{span}_{n}" for n in count(2)))
    return next(name for name in tries if name not in taken)


def columns_of(job: Job, names: list[str]) -> dict[str, tuple[str, ...]]:
    """Map each key of a clip to its columns: the given columns, and columns with a known name.

    Raises:
        InputError: A given column does not exist.
    """
    for key, given in job.columns.items():
        if missing := [name for name in given if name not in names]:
            raise InputError(f"there is no column {missing[0]!r} for {key}; there are: {', '.join(names)}")
    plain = {name: name.strip().lower() for name in names}
    guessed = {_NAMES.get(low, low): (name,) for name, low in plain.items() if _NAMES.get(low, low) in KEYS}
    columns = guessed | dict(job.columns)
    used = {name for own in columns.values() for name in own}
    for name in names:
        if name not in used:
            job.lost[f"values of the column {name!r}, which is not used"] += 1
    return columns


def record_of(row: Mapping[str, Any], columns: Mapping[str, tuple[str, ...]]) -> Record:
    """Convert a row to a part of a clip's record."""
    values = {key: [row[name] for name in names] for key, names in columns.items()}
    found: Record = {}
    for key in ("id", "video", "category", "device", "split", "source"):
        if key in values and _there(values[key][0]):
            found[key] = values[key][0] if key == "video" else str(values[key][0]).strip()
    for key in ("start", "end"):
        if key in values and _there(values[key][0]):
            found[key] = _seconds(key, values[key][0])
    captions = [text for value in values.get("captions", ()) for text in _list(value) if _there(text)]
    if captions:
        found["captions"] = [str(text).strip() for text in captions]
    if _there(values.get("question", [None])[0]) and _there(values.get("answer", [None])[0]):
        asked: Record = {"question": str(values["question"][0]).strip(), "answer": values["answer"][0]}
        options = [str(text) for value in values.get("options", ()) for text in _list(value) if _there(text)]
        if options:
            asked["options"] = options
        if _there(values.get("type", [None])[0]):
            asked["type"] = str(values["type"][0])
        answer = asked["answer"]
        if not isinstance(answer, list | str) and not options:
            asked["answer"] = str(answer)
        found["qa"] = [asked]
    return found


def _seconds(key: str, value: Any) -> float:
    """Convert a cell to seconds: a number, or a time such as '00:01:02.5'."""
    found = clock(value) if isinstance(value, str) else float(value)
    if found is None:
        raise InputError(f"{key} {value!r} is no time; write seconds, or hours:minutes:seconds")
    return found


def _there(value: Any) -> bool:
    """Check whether a cell is not empty; an empty cell is None, blank or NaN."""
    return value is not None and value == value and str(value).strip() != ""


def _list(value: Any) -> list[Any]:
    """Convert a cell to a list; a list that is written as text, as by pandas, is parsed."""
    if isinstance(value, str) and value.strip().startswith("["):
        with suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value.strip())
    return list(value) if isinstance(value, list | tuple) else [value]


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    text = read_text(path)
    delimiter = max("\t;,", key=text.partition("\n")[0].count)
    yield from csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading Parquet", "formats") from error
    for batch in parquet.ParquetFile(path).iter_batches(256):
        yield from batch.to_pylist()
