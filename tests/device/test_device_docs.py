"""The code of docs/device.md runs, block after block, as it is printed."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import TinyBackend, serving
from bundles import make_bundle
from test_device_video import write

from paramcast.cloud import create_app
from paramcast.wire import SigningKey

PAGE = Path(__file__).parents[2] / "docs" / "device.md"


def test_the_page_runs(
    tmp_path: Path, clip: Callable[..., np.ndarray], key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "bundle")
    write("street.mp4", seconds=2)
    with serving(create_app(TinyBackend(), key)) as url:
        names: dict[str, Any] = {"frames": clip(), "url": url, "__name__": "page"}
        for number, block in enumerate(blocks):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), names)
            said = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.M)
            for line in said:  # what the page says is printed
                assert line in printed.getvalue().splitlines()
