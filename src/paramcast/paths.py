"""Where paramcast keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir(*parts: str) -> Path:
    """The cache folder, made on first use: `PARAMCAST_CACHE` if set, else `~/.cache/paramcast`."""
    root = os.environ.get("PARAMCAST_CACHE")
    folder = (Path(root) if root else Path.home() / ".cache" / "paramcast").joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
