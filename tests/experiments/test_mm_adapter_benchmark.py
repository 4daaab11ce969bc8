"""The Multi-Modal Adapter's benchmark: the few-shot protocol, the baselines, encoders and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from few_shot import CLASSES, DIM, make_task, unit_rows
from torch import Tensor

from experiments.methods.mm_adapter import summary
from experiments.methods.mm_adapter.baselines import METHODS, Task, TipCache, linear_probe
from experiments.methods.mm_adapter.benchmark import measure
from experiments.methods.mm_adapter.command import command
from experiments.methods.mm_adapter.embedding import Embedded, class_name, embed_task
from experiments.methods.mm_adapter.encoders import PretrainedEncoder, RetrievalEncoder
from experiments.methods.mm_adapter.fewshot import base_new, halves, harmonic_mean
from paramcast.errors import InputError
from paramcast.methods.mm_adapter import FewShotError
from paramcast.methods.mm_adapter.fitting import Shots
from paramcast.methods.mm_adapter.inputs import draw_shots
from paramcast.video.models.retrieval import RetrievalModel


@pytest.fixture(scope="module")
def task() -> Embedded:
    return make_task()


def test_base_and_new() -> None:
    for rounding, expected in (("ceil", 3), ("floor", 2)):
        base, new = base_new(5, rounding)  # type: ignore[arg-type]
        assert (len(base), list(base) + list(new)) == (expected, [0, 1, 2, 3, 4])
    with pytest.raises(FewShotError, match="at least 2"):
        base_new(1)
    with pytest.raises(FewShotError, match="rounding"):
        base_new(4, "round")  # type: ignore[arg-type]


def test_shots_are_disjoint_nested_and_bounded() -> None:
    y = np.repeat([0, 1, 2], [20, 3, 1])
    small, _ = draw_shots(y, 2, seed=1)
    train, validation = draw_shots(y, 4, seed=1)
    assert set(small) <= set(train)
    assert not set(train) & set(validation)
    assert np.bincount(y[train]).tolist() == [4, 2, 1]
    assert np.bincount(y[validation], minlength=3).tolist() == [4, 1, 0]
    with pytest.raises(FewShotError, match="shots"):
        draw_shots(y, 0, seed=1)


def test_halves_are_disjoint_and_hold_every_class() -> None:
    y = np.repeat([0, 1, 2], [20, 3, 1])
    pool, test = halves(y, seed=1)
    assert sorted([*pool, *test]) == list(range(len(y)))
    assert np.bincount(y[pool]).tolist() == [10, 2, 1]
    assert set(test) != set(halves(y, seed=2)[1])


def test_harmonic_mean() -> None:
    assert harmonic_mean(50, 100) == pytest.approx(66.6667, abs=1e-3)
    assert harmonic_mean(0, 100) == 0


def shots_of_all(task: Embedded) -> Shots:
    images, y = torch.from_numpy(task.images), torch.from_numpy(task.y)
    return Shots(images, y, images, y)


def test_tip_cache_finds_its_own_keys(task: Embedded) -> None:
    shots = shots_of_all(task)
    assert (TipCache(shots, CLASSES)(shots.images, beta=100.0).argmax(1) == shots.labels).all()


def test_probe_of_two_classes_and_of_a_class_without_shots(task: Embedded) -> None:
    texts = torch.from_numpy(task.texts)
    for known in ([2, 5], [0, 2, 5]):
        rows = np.flatnonzero(np.isin(task.y, known))
        some = make_task()
        shots = shots_of_all(Embedded(some.names, some.texts, some.images[rows], some.y[rows]))
        fitted = linear_probe(Task(shots, texts, math.log(20), 0))
        assert (fitted.scorer(shots.images, texts).argmax(1) == shots.labels).float().mean() > 0.9


def test_benchmark_rows(task: Embedded) -> None:
    steps = []
    rows = measure(task, [2], 2, "ceil", METHODS, lambda: steps.append(1))
    assert [row["method"] for row in rows] == list(METHODS)
    assert len(steps) == 2 * len(METHODS)
    by_name = {row["method"]: row for row in rows}
    assert by_name["linear probe"]["new"] is None
    assert by_name["Tip-Adapter"]["new"] == by_name["zero-shot"]["new"]  # its cache has no new class
    assert by_name["Tip-Adapter-F"]["new"] == by_name["zero-shot"]["new"]
    for row in rows:
        assert row["base"]["low"] <= row["base"]["mean"] <= row["base"]["high"]
        assert len(row["base"]["seeds"]) == 2
    again = measure(task, [2], 2, "ceil", {"CLIP-Adapter": METHODS["CLIP-Adapter"]})
    assert again == [by_name["CLIP-Adapter"]]


def test_test_images_choose_nothing(task: Embedded) -> None:
    """With other test images, what is fitted stays the same."""
    seen: list[Tensor] = []
    _, test = halves(task.y, seed=0)
    spoilt = task.images.copy()
    spoilt[test] = unit_rows(np.random.default_rng(1).normal(size=(len(test), DIM)))
    for images in (task.images, spoilt):
        for name, method in METHODS.items():

            def spy(given: Task, method: Any = method) -> Any:
                fitted = method(given)
                seen.append(fitted.scorer(given.shots.val_images, given.texts).detach())
                return fitted

            measure(Embedded(task.names, task.texts, images, task.y), [1], 1, "ceil", {name: spy})
    for one, other in zip(seen[: len(METHODS)], seen[len(METHODS) :], strict=True):
        torch.testing.assert_close(one, other)


def made_model(train: list[str]) -> Any:
    store = SimpleNamespace(
        clips=lambda requests: [np.ones((1 + len(clip) % 3, 8), np.float32) for clip, _ in requests],
        texts=lambda texts: np.eye(len(texts), 5, dtype=np.float32),
    )
    config = SimpleNamespace(
        task="retrieval", collection="other", seed=0, clips={"train": train, "validation": [], "test": []}
    )
    return SimpleNamespace(base=RetrievalModel(8, 5, width=DIM).eval(), config=config, store=lambda _: store)


def test_embedding_of_a_collection() -> None:
    clips = tuple(
        SimpleNamespace(id=f"clip{n}", category=None, extra={"equipment": ["rope", "ball"][n % 2]})
        for n in range(40)
    )
    collection: Any = SimpleNamespace(clips=clips, name="gym")
    task = embed_task(RetrievalEncoder(made_model([])), collection, "equipment")
    assert task.names == ("ball", "rope")
    assert (task.texts.shape, task.images.shape) == ((2, DIM), (40, DIM))
    np.testing.assert_allclose(np.linalg.norm(task.images, axis=1), 1, rtol=1e-5)
    known = RetrievalEncoder(made_model([f"clip{n}" for n in range(10)]))
    assert (
        len(embed_task(known, collection, "equipment").y) == 30
    )  # what the encoder was trained on is left out
    with pytest.raises(FewShotError, match="10 clips do not count"):
        embed_task(known, collection, "level")
    with pytest.raises(FewShotError, match=r"no \{\}"):
        embed_task(known, collection, "equipment", "a video")
    with pytest.raises(FewShotError, match="train --task retrieval"):
        RetrievalEncoder(SimpleNamespace(base=None, config=SimpleNamespace(task="qa")))  # type: ignore[arg-type]


def test_a_pretrained_encoder_needs_a_text_half() -> None:
    with pytest.raises(InputError, match="known are"):
        PretrainedEncoder("efficientnet-lite0")


@pytest.mark.parametrize("arguments", [[], ["--model", ".", "--encoder", "open_clip:a:b"]])
def test_command_asks_for_one_encoder(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "clips.jsonl").write_text(json.dumps({"id": "a", "frames": ["a.png"]}))
    (tmp_path / "a.png").touch()
    result = CliRunner().invoke(command, [*arguments, "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "either --model or --encoder" in result.output


def test_class_names() -> None:
    clip: Any = SimpleNamespace(
        category="3", extra={"primaryMuscles": ["neck", "chest"], "level": None, "force": []}
    )
    assert class_name(clip, "category") == "sports"
    assert class_name(clip, "primaryMuscles") == "neck"
    assert class_name(clip, "level") is None
    assert class_name(clip, "force") is None


def test_summary_pairs_by_task_shots_and_seed(tmp_path: Path) -> None:
    def row(label: str, method: str, base: list[float]) -> dict[str, Any]:
        found = {"seeds": base}
        about = {"data": "d", "label": label, "shots": 1, "method": method}
        return about | {"base": found, "new": found, "harmonic": found}

    for label, plain, ours in (("a", [10.0, 20.0], [11.0, 23.0]), ("b", [50.0, 70.0], [51.0, 73.0])):
        rows = [row(label, "zero-shot", plain), row(label, "Multi-Modal Adapter", ours)]
        (tmp_path / f"{label}.json").write_text(json.dumps({"rows": rows}))
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    result = CliRunner().invoke(summary.command, files, catch_exceptions=False)
    zero, adapter = result.output.splitlines()[2:]
    assert zero.startswith("| zero-shot | 37.5 [")
    assert "| +2.0 [-10.7, +14.7] | +2.0 " in adapter  # seeds gain 1 and 3: 2 -+ 12.706 · 1
    (tmp_path / "a.json").write_text(json.dumps({"rows": [row("a", "zero-shot", [1.0, 2.0])]}))
    result = CliRunner().invoke(summary.command, files)
    assert isinstance(result.exception, FewShotError)
