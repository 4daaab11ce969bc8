"""`paramcast demo`: its size, and that it takes its processes with it. The full demo is `make demo`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from paramcast.bench.demo import FULL, devices_table
from paramcast.bench.processes import ProcessError, cloud_service, finish_device, start_device
from paramcast.bench.untrained import untrained_artifact
from paramcast.video.training.model import TrainedModel


def test_a_demo_of_another_size() -> None:
    size = FULL.of(3, 7)
    assert (size.devices, size.training.seed, size.judged) == (3, 7, FULL.judged)


def test_the_service_ends_with_its_block(model: Path, tmp_path: Path) -> None:
    urls = []

    def interrupted() -> None:
        artifact = untrained_artifact(TrainedModel.load(model), tmp_path / "artifact")
        with cloud_service(artifact, tmp_path / "cloud") as url:
            urls.append(url)
            assert httpx2.get(f"{url}/healthz").status_code == 200
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{urls[0]}/healthz")


def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ProcessError, match="is no artifact"),
        cloud_service(tmp_path, tmp_path / "cloud"),
    ):
        pass


def test_a_device_that_fails_says_why(tmp_path: Path) -> None:
    figures = tmp_path / "cam-1.json"
    process = start_device(tmp_path, "http://127.0.0.1:9", tmp_path, "cam-1", tmp_path / "f", 1, figures)
    with pytest.raises(
        ProcessError, match=r"cam-1 failed: paramcast: .*is no exported folder: it has no manifest"
    ):
        finish_device(process, figures)


def test_stopping_is_not_put_off() -> None:
    from paramcast.bench.processes import stop

    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stop(process)
    assert process.returncode != 0


def test_table_of_devices() -> None:
    device = {
        "device": "test-0000",
        "base": {"top1": 40.0, "answer_ms": 50.0},
        "own": {"top1": 44.0, "answer_ms": 51.0},
        "bytes_up": 2500,
        "bytes_down": 1400,
        "adapt_ms": 12.0,
        "swap_ms": 3.0,
        "peak_mb": 300.0,
    }
    lines = devices_table([device, {**device, "own": {"top1": 46.0, "answer_ms": 50.0}}]).splitlines()
    assert lines[2].split()[:5] == ["test-0000", "40.0", "44.0", "2,500", "1,400"]
    assert lines[-1].split() == ["mean", "40.0", "45.0"]
