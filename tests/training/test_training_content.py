"""A run knows what it was trained on, and a start that fails leaves no folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paramcast.errors import InputError
from paramcast.files import write_json
from paramcast.video.data.collection import Collection, CollectionError
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.pipeline import _run, _same_run, train
from paramcast.video.training.whole import whole_collection

OPTIONS = TrainingOptions("qa", devices=8, frames=2, adaptor_steps=1)


def made(root: Path, clips: int = 60, **change: Any) -> Collection:
    root.mkdir(exist_ok=True)
    lines = []
    for n in range(clips):
        Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(root / f"{n}.png")
        qa = [{"question": "what is it?", "answer": f"thing {n % 5}"}]
        lines.append(json.dumps({"id": f"c{n}", "frames": [f"{n}.png"], "qa": qa, **change}))
    (root / "clips.jsonl").write_text("\n".join(lines))
    return Collection.open(root)


def test_a_run_goes_on_with_the_same_data_alone(tmp_path: Path) -> None:
    collection, out = made(tmp_path / "d"), tmp_path / "m"
    assert not _same_run(out, _run(collection, OPTIONS))
    write_json(out / "run.json", _run(collection, OPTIONS))
    assert _same_run(out, _run(Collection.open(tmp_path / "d"), OPTIONS))
    other = made(tmp_path / "d", qa=[{"question": "what is it?", "answer": "corrected"}])
    with pytest.raises(InputError, match="holds a run on other data"):
        train(other, out, OPTIONS)
    made(tmp_path / "d")
    (tmp_path / "d" / "3.png").write_bytes((tmp_path / "d" / "4.png").read_bytes())
    with pytest.raises(InputError, match="holds a run on other data"):
        train(Collection.open(tmp_path / "d"), out, OPTIONS)


def test_a_run_of_before_does_not_say_what_its_data_were(tmp_path: Path) -> None:
    collection = made(tmp_path / "d")
    run = _run(collection, OPTIONS)
    del run["content"]
    write_json(tmp_path / "m" / "run.json", run)
    with pytest.raises(InputError, match="other data"):
        train(collection, tmp_path / "m", OPTIONS)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({}, {"image_encoder": "nope"}, "unknown image encoder 'nope'"),
        ({"qa": []}, {}, "no clip of collection 'd' has `qa`, which task 'qa' learns from"),
        (
            {"split": "test"},
            {},
            "too few clips for task 'qa': 60 of 60 have `qa`, and 0 of these",
        ),
        (
            {"frames": ["1.png", "2.png", "3.png"], "frame_captions": ["a", "b", "c"], "source": None},
            {"task": "retrieval"},
            "3 sentences in frame_captions, one per picture, but --frames is 2",
        ),
    ],
)
def test_a_start_that_fails_leaves_no_folder(
    tmp_path: Path, change: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    collection = made(tmp_path / "d", **change)
    settings = TrainingOptions(**{"task": "qa", "devices": 8, "frames": 2, "adaptor_steps": 1, **options})
    with pytest.raises(InputError) as caught:
        train(collection, tmp_path / "m", settings)
    assert says in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_broken_clips_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARAMCAST_CACHE", str(tmp_path / "cache"))
    made(tmp_path / "d", 6)
    (tmp_path / "d" / "2.png").write_bytes(b"broken")
    (tmp_path / "d" / "4.png").unlink()
    with (tmp_path / "d" / "clips.jsonl").open("a") as lines:
        lines.write("\n{bad\n")
    whole = whole_collection(tmp_path / "d", OPTIONS)
    assert [clip.id for clip in whole.clips] == ["c0", "c1", "c3", "c5"]
    said = capsys.readouterr().err
    assert said.count("left out: ") == 3
    assert all(f"clips.jsonl:{line}" in said for line in (3, 5, 7))
    for n in range(6):
        (tmp_path / "d" / f"{n}.png").write_bytes(b"broken")
    with pytest.raises(CollectionError):
        whole_collection(tmp_path / "d", OPTIONS)
