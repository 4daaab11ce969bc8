"""Hash of the content of a collection: its lines and files, independent of their location."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from paramcast.video.data.cache import digest, digest_files
from paramcast.video.data.collection import Clip, Collection

_NOT_CONTENT = ("root", "line", "made")


def content_of(collection: Collection) -> str:
    """Compute a hash, as hex, of the lines and the files of a collection.

    Every file is read. The order of the lines and the location of the folder do not change the hash.

    Raises:
        CollectionError: A file cannot be read.
    """
    files = sorted({path for clip in collection.clips for path in clip.paths})
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        held = dict(zip(files, pool.map(lambda path: _file(collection, path), files), strict=True))
    clips = sorted(collection.clips, key=lambda clip: clip.id)
    return digest(*(digest(_said(clip), *(held[path] for path in clip.paths)) for clip in clips)).hex()


def _file(collection: Collection, path: Path) -> bytes:
    try:
        return digest_files([path])
    except OSError as error:
        clip = next(clip for clip in collection.clips if path in clip.paths)
        raise clip.error(f"cannot read {path} ({error.strerror})") from error


def _said(clip: Clip) -> str:
    """Write the fields of a clip as JSON with sorted keys, without location, line number and `made`."""
    said = {key: value for key, value in asdict(clip).items() if key not in _NOT_CONTENT}
    return json.dumps(said, sort_keys=True, default=str)
