"""`paramcast device watch`: a real video file, a real cloud, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from backends import TinyBackend, serving
from bundles import make_bundle
from test_device_video import write

from paramcast.protocol import SigningKey
from paramcast.server import create_app


def watch(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paramcast", "device", "watch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_it_answers_and_adapts(tmp_path: Path, key: SigningKey) -> None:
    write(str(tmp_path / "v.mp4"), 4)
    bundle = make_bundle(tmp_path / "b")
    given = ["--bundle", bundle, "--source", tmp_path / "v.mp4", "--question", "who", "--seconds", 1]
    with serving(create_app(TinyBackend(), key)) as url:
        done = watch(*given, "--cloud", url, "--ask", "every:2", "--store", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    *clips, summary = done.stdout.splitlines()
    assert [line.split(":")[0] for line in clips] == [
        f"clip {number}, package {package}" for number, package in [(1, 0), (2, 0), (3, 1), (4, 1)]
    ]
    assert summary.startswith("cloud: package 2 came from the cloud; asked 2 times")
    alone = watch(*given, "--store", tmp_path / "store", "--clips", 1)
    assert alone.stdout.splitlines()[0].startswith("clip 1, package 2: ")


def test_what_it_cannot_use_is_one_line(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", task="retrieval")
    done = watch("--bundle", bundle, "--source", tmp_path / "none.mp4", "--question", "who")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "is for task retrieval" in done.stderr
