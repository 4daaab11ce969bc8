"""The code of the pages about devices and fleets runs, block after block, as it is printed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from backends import TinyBackend, serving
from bundles import make_bundle
from test_device_video import write

from documentation import run_page
from paramcast.protocol import SigningKey
from paramcast.server import Database, RequestGuard, create_app
from paramcast.server.db import identities


def test_the_device_s_page_runs(
    tmp_path: Path, clip: Callable[..., np.ndarray], key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "artifact" / "device")
    write("street.mp4", seconds=2)
    with serving(create_app(TinyBackend(), key)) as url:
        assert run_page("device.md", frames=clip(), url=url) >= 3


def test_the_fleet_s_page_runs(
    tmp_path: Path, clip: Callable[..., np.ndarray], key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "artifact" / "device")
    database = Database.temporary()
    with database.writing() as connection:
        token = identities.new_enrolment(connection, None, int(1000 * time.time()), 60_000)
    app = create_app(TinyBackend(), key, database=database, gate=RequestGuard(required=True))
    with serving(app) as url:
        assert run_page("fleet.md", clips=[clip() for _ in range(3)], url=url, token=token) == 2
    database.close()
