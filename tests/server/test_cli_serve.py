"""`paramcast serve` in a process of its own, with the tiny generator in the place of a trained model."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx2
import pytest
from processes import command


def start(*arguments: str, without: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("serve", *arguments, without=without),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_its_socket_is_one_that_asyncio_sends_from_at_once() -> None:
    from paramcast.cli.serve import opened_listener

    with opened_listener("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_it_says_where_it_is_and_makes_its_key(tmp_path: Path) -> None:
    ready, key = tmp_path / "ready.json", tmp_path / "cloud.key"
    process = start("--model", "M", "--port", "0", "--key", str(key), "--ready-file", str(ready))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        info = json.loads(ready.read_text())
        assert info["url"] in line
        assert info["public_key"] in line
        described = httpx2.get(f"{info['url']}/v1/model").json()
        assert described["public_key"] == info["public_key"]
        assert httpx2.get(f"{info['url']}/healthz").status_code == 200
        if os.name == "posix":
            assert key.stat().st_mode & 0o777 == 0o600
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "without", "message"),
    [
        (["--port", "0"], "uvicorn", "paramcast[server]"),
        (["--port", "0"], "fastapi", "paramcast[server]"),
        (["--host", "203.0.113.1", "--port", "0"], "", "cannot listen on 203.0.113.1"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    tmp_path: Path, arguments: list[str], without: str, message: str
) -> None:
    process = start("--model", "M", "--key", str(tmp_path / "key"), *arguments, without=without)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert message in errors
    assert errors.count("\n") == 1
