"""What a collection holds, as one number: lines and files, wherever they lie."""

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
    """Hash what the clips say and what their files hold; hex.

    Every file is read. Order and place of the lines, and where the folder lies, do not count.

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
    """A clip's line, whatever the order of its keys."""
    said = {key: value for key, value in asdict(clip).items() if key not in _NOT_CONTENT}
    return json.dumps(said, sort_keys=True, default=str)
