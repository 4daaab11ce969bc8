"""Tests the server with the same tiny bundles and generators as the device, on both databases."""

from __future__ import annotations

import sys
from pathlib import Path

from states import new_url, postgres_server, url

sys.path.insert(0, str(Path(__file__).parents[1] / "device"))

__all__ = ["new_url", "postgres_server", "url"]
