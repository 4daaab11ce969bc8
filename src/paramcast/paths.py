"""Folder for files that paramcast can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir(*parts: str) -> Path:
    """Return a folder in the cache and make it if it is absent.

    The cache is `PARAMCAST_CACHE` if set, else `~/.cache/paramcast`.

    Args:
        parts: Names of the folders below the cache.
    """
    root = os.environ.get("PARAMCAST_CACHE")
    folder = (Path(root) if root else Path.home() / ".cache" / "paramcast").joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
