"""Importers of streams: WebDataset shards and data sets of Hugging Face `datasets`.

Samples are read one by one; only their videos are kept, as files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from paramcast.errors import InputError, MissingExtraError
from paramcast.files import write_bytes
from paramcast.video.imports.job import VIDEOS, Job, Record, split_of
from paramcast.video.imports.tables import columns_of, record_of

_TEXTS = ("txt", "text", "caption", "cap")
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def webdataset(job: Job) -> Iterator[Record]:
    """Read shards, named as in the library `webdataset` (`shards/{000000..000099}.tar`), or a folder of them.

    The members of a sample are grouped here, because the library splits names at their first dot: all clips
    with names such as '0001_American_Beauty_00.00.51-00.00.54' would become one sample
    (findings/webdataset_splits_at_first_dot.sh).
    """
    try:
        from webdataset.shardlists import expand_urls
        from webdataset.tariterators import tar_file_expander, url_opener
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading WebDataset shards", "formats") from error
    path = Path(job.source)
    urls = [str(shard) for shard in sorted(path.glob("*.tar*"))] if path.is_dir() else expand_urls(job.source)
    for url in urls:
        split = split_of(Path(url))
        with ExitStack() as stack:
            if Path(url).is_file():  # opened here, because the library does not close files
                opened = iter([{"url": url, "stream": stack.enter_context(Path(url).open("rb"))}])
            else:
                opened = url_opener([{"url": url}])
            for key, parts in _samples(tar_file_expander(opened)):
                record = _record(job, key, parts)
                if record is not None:
                    yield record if split is None else {"split": split, **record}


def _samples(members: Iterator[dict[str, Any]]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Group consecutive members whose names differ only after the last dot."""
    key: str | None = None
    parts: dict[str, bytes] = {}
    for member in members:
        if "fname" not in member:
            continue
        name = PurePosixPath(member["fname"])
        own = name.with_suffix("").as_posix().removeprefix("./")
        if own != key:
            if key is not None:
                yield key, parts
            key, parts = own, {}
        parts[name.suffix.lower().lstrip(".")] = member["data"]
    if key is not None:
        yield key, parts


def _record(job: Job, key: str, parts: dict[str, bytes]) -> Record | None:
    ending = next((ending for ending in parts if f".{ending}" in VIDEOS), None)
    if ending is None:
        job.lost["samples without a video"] += 1
        return None
    record: Record = {"id": key, "video": _kept(job, f"{key}.{ending}", parts.pop(ending))}
    captions = [parts.pop(name).decode("utf-8", "replace").strip() for name in _TEXTS if name in parts]
    about = json.loads(parts.pop("json")) if "json" in parts else {}
    if isinstance(about, dict):
        for name in ("caption", "captions", "text"):
            value = about.get(name)
            captions += [value] if isinstance(value, str) else value if isinstance(value, list) else []
        for name in ("qa", "category", "start", "end", "split", "source", "device"):
            if about.get(name) is not None:
                record[name] = about[name]
    if "cls" in parts:
        record.setdefault("category", parts.pop("cls").decode().strip())
    for name in parts:
        job.lost[f"members .{name}"] += 1
    captions = [text for text in dict.fromkeys(captions) if text.strip()]
    return record | ({"captions": captions} if captions else {})


def huggingface(job: Job) -> Iterator[Record]:
    """Read a data set with a column of videos: its name on the hub, or a folder or Parquet file."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading data sets of Hugging Face", "formats") from error
    path = Path(job.source)
    if path.is_file():
        parts = datasets.load_dataset("parquet", data_files=str(path), streaming=True)
    elif path.is_dir() and any(path.glob("*.parquet")):
        files: dict[str, list[str]] = {}
        for file in sorted(path.glob("*.parquet")):
            files.setdefault(split_of(file) or "train", []).append(str(file))
        parts = datasets.load_dataset("parquet", data_files=files, streaming=True)
    else:
        parts = datasets.load_dataset(job.source, streaming=True)
    for split, rows in parts.items():
        column = job.columns.get("video", (_video_column(rows, datasets.Video),))[0]
        if isinstance((rows.features or {}).get(column), datasets.Video):
            rows = rows.cast_column(column, datasets.Video(decode=False))
        columns: dict[str, tuple[str, ...]] | None = None
        for number, row in enumerate(rows):
            columns = columns or columns_of(job, list(row)) | {"video": (column,)}
            record = record_of(row, columns)
            held = record.pop("video", None)
            data, name = _bytes(held)
            if data is None:
                job.lost["rows without the bytes of a video"] += 1
                continue
            clip = record.pop("id", f"{split}-{number:06}")
            ending = Path(name or "").suffix or ".mp4"
            given = {"split": _SPLITS[split]} if split in _SPLITS and len(parts) > 1 else {}
            yield {"id": clip, "video": _kept(job, f"{clip}{ending}", data), **given, **record}


def _video_column(rows: Any, kind: type) -> str:
    features = rows.features or {}
    for name, feature in features.items():
        if isinstance(feature, kind):
            return str(name)
    for name in ("video", "mp4", "clip"):
        if name in features or not features:
            return name
    raise InputError(
        f"no column holds videos; say which: --column video=NAME (there are {', '.join(features)})"
    )


def _bytes(held: Any) -> tuple[bytes | None, str | None]:
    """Return the bytes and the name of a video from a value of `datasets`."""
    if isinstance(held, bytes):
        return held, None
    if isinstance(held, dict):
        path = held.get("path")
        if held.get("bytes") is not None:
            return held["bytes"], path
        if path and Path(path).is_file():
            return Path(path).read_bytes(), path
    return None, None


def _kept(job: Job, name: str, data: bytes) -> str:
    """Write a video into the collection and return its path there."""
    safe = "/".join(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "/"))
    write_bytes(job.out / "videos" / safe, data)
    return f"videos/{safe}"
