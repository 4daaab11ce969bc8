"""`paramcast device run` in a process of its own, against a real service and a small real collection."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from backends import TinyBackend, serving
from bundles import make_bundle
from PIL import Image

from paramcast.device import DeviceRuntime
from paramcast.protocol import SigningKey
from paramcast.server import create_app
from paramcast.video.data.collection import Collection
from paramcast.video.data.frames import read_frames
from paramcast.video.shifts.cameras import CAMERA_KINDS, Camera
from paramcast.video.shifts.fleet import Device, Fleet
from paramcast.video.shifts.vocabulary import Vocabulary

Clip = Callable[..., np.ndarray]


@pytest.fixture
def collection(tmp_path: Path, clip: Clip) -> Path:
    """Eight clips of three frames with two questions, a caption, and a sentence for each frame if `-f`."""
    root = tmp_path / "data"
    root.mkdir()
    lines = []
    for number in range(8):
        names = []
        for place, frame in enumerate(clip(number, 3)):
            names.append(f"{number}-{place}.png")
            Image.fromarray(frame).save(root / names[-1])
        answers = [
            {"question": "what colour is the ball", "answer": "red"},
            {"question": "who", "answer": "dog"},
        ]
        lines.append(
            {"id": f"c{number}", "frames": names, "qa": answers, "captions": ["a red ball", "a dog"]}
        )
    (root / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "from paramcast.cli import main; main()"
    command = [sys.executable, "-c", code, "device", "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_device_adapts_over_http(tmp_path: Path, collection: Path, key: SigningKey) -> None:
    bundle, figures, store = make_bundle(tmp_path / "b"), tmp_path / "figures.json", tmp_path / "store"
    with serving(create_app(TinyBackend(), key)) as url:
        options = ["--bundle", bundle, "--data", collection, "--device-id", "cam-1", "--support", 3]
        for sequence in (1, 2):
            result = run(*options, "--cloud", url, "--store", store, "--json", figures)
            assert result.returncode == 0, result.stderr
            made = json.loads(figures.read_text())
            assert (made["sequence"], made["source"]) == (sequence, "cloud")
    assert made.keys() == {
        *("device", "support", "base", "own", "source", "sequence", "peak_mb"),
        *("bytes_up", "bytes_down", "adapt_ms", "swap_ms"),
    }
    assert made["support"] == 3
    assert made["base"].keys() == made["own"].keys() == {"top1", "black", "answer_ms"}
    assert made["adapt_ms"] > made["swap_ms"] > 0
    assert 200 < made["bytes_up"] < 600
    assert result.stdout.startswith("cam-1: top1")
    assert result.stdout.count("\n") == 1


def test_a_device_chooses(tmp_path: Path, collection: Path, key: SigningKey) -> None:
    bundle, figures = make_bundle(tmp_path / "b", task="choice", form="codes"), tmp_path / "figures.json"
    options = ["--bundle", bundle, "--data", collection, "--device-id", "cam-1", "--support", 3]
    with serving(create_app(TinyBackend("codes", "choice"), key)) as url:
        result = run(*options, "--cloud", url, "--json", figures)
    assert result.returncode == 0, result.stderr
    made = json.loads(figures.read_text())
    assert (made["sequence"], made["source"]) == (1, "cloud")
    assert made["base"].keys() == made["own"].keys() == {"top1", "black", "answer_ms"}
    runtime, right = DeviceRuntime.load(bundle, "cam-1"), []
    data = Collection.open(collection)
    for clip in data.clips[3:]:
        pairs = [(qa.question, qa.answer) for qa in clip.qa]
        offered = [data.distractors.options(clip.id, qa) for qa in clip.qa]
        given = runtime.choose(read_frames(clip), [question for question, _ in pairs], offered)
        right += [one.text == answer for one, (_, answer) in zip(given, pairs, strict=True)]
    assert made["base"]["top1"] == 100 * np.mean(right)


def test_a_device_of_a_fleet_retrieves(tmp_path: Path, collection: Path, key: SigningKey) -> None:
    device = Device(
        id="test-0001",
        split="test",
        support=("c0", "c1"),
        query=("c4", "c5", "c6"),
        cameras=(Camera(CAMERA_KINDS[0], 0.5, 1),),
        vocabulary=Vocabulary(3, 1.0),
        categories={},
        collection="data",
    )
    fleet, figures = tmp_path / "fleet.json", tmp_path / "figures.json"
    Fleet((device,)).save(fleet)
    bundle = make_bundle(tmp_path / "b", task="retrieval", form="codes")
    options = ["--bundle", bundle, "--data", collection, "--fleet", fleet, "--json", figures]
    with serving(create_app(TinyBackend("codes", "retrieval"), key)) as url:
        result = run(*options, "--device-id", "test-0001", "--cloud", url)
    assert result.returncode == 0, result.stderr
    made = json.loads(figures.read_text())
    assert made["support"] == 2
    assert made["own"].keys() == {"r@1", "r@5", "r@10", "answer_ms"}
    assert made["own"]["r@5"] == 100  # of three clips
    missing = run(*options, "--device-id", "test-0002")
    assert missing.returncode == 2
    assert "no device 'test-0002'" in missing.stderr


def test_frames_with_sentences_are_retrieved_one_by_one(tmp_path: Path, collection: Path) -> None:
    lines = [json.loads(line) for line in (collection / "clips.jsonl").read_text().splitlines()]
    for line in lines:
        line["frame_captions"] = ["a red ball", "a dog", "a man"]
    (collection / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figures = tmp_path / "figures.json"
    bundle = make_bundle(tmp_path / "b", task="retrieval")
    result = run(
        "--bundle", bundle, "--data", collection, "--device-id", "x", "--support", 2, "--json", figures
    )
    assert result.returncode == 0, result.stderr
    assert "not adapted" in result.stdout
    assert "own" not in json.loads(figures.read_text())


def test_without_its_cloud_a_device_answers_and_says_so(tmp_path: Path, collection: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    figures = tmp_path / "figures.json"
    options = ["--bundle", make_bundle(tmp_path / "b"), "--data", collection, "--device-id", "cam-1"]
    result = run(*options, "--support", 3, "--cloud", url, "--json", figures)
    assert result.returncode == 1
    assert "no answer from the cloud" in result.stderr
    made = json.loads(figures.read_text())
    assert (made["source"], made["own"]["top1"]) == ("base", made["base"]["top1"])


def test_too_few_clips_are_one_clear_line(tmp_path: Path, collection: Path) -> None:
    options = ["--bundle", make_bundle(tmp_path / "b"), "--data", collection, "--device-id", "cam-1"]
    result = run(*options, "--support", 8)
    assert (result.returncode, result.stdout) == (2, "")
    assert "no questions" in result.stderr
    assert result.stderr.count("\n") == 1
