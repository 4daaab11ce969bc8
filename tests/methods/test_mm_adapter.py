"""Multi-Modal Adapter: its size, its masks, its training, the few-shot protocol, the baselines."""

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
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor
from torch.nn import functional as F

from paramcast.errors import InputError
from paramcast.methods import MultiModalAdapter
from paramcast.methods.mm_adapter import FewShotError, summary
from paramcast.methods.mm_adapter.__main__ import command
from paramcast.methods.mm_adapter.baselines import METHODS, Task, TipCache, linear_probe
from paramcast.methods.mm_adapter.benchmark import interval, measure
from paramcast.methods.mm_adapter.embedding import Embedded, class_name, embed_task
from paramcast.methods.mm_adapter.encoders import PretrainedEncoder, RetrievalEncoder
from paramcast.methods.mm_adapter.fewshot import base_new, draw_shots, halves, harmonic_mean
from paramcast.methods.mm_adapter.fitting import Shots, fitted_scale
from paramcast.methods.mm_adapter.network import MASKS, AdapterNet, attention_mask
from paramcast.models.retrieval import RetrievalModel

DIM, CLASSES = 24, 6


def make_task(rows: int = 144, seed: int = 0, moved: float = 0.8) -> Embedded:
    """Texts, and images about them, which have moved in another direction for each class."""
    rng = np.random.default_rng(seed)
    texts = _unit(rng.normal(size=(CLASSES, DIM)))
    gap = moved * _unit(rng.normal(size=(CLASSES, DIM)))
    y = np.arange(rows) % CLASSES
    return Embedded(tuple("abcdef"), texts, _unit(texts[y] + gap[y] + 0.25 * rng.normal(size=(rows, DIM))), y)


def _unit(rows: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


@pytest.fixture(scope="module")
def task() -> Embedded:
    return make_task()


@pytest.fixture(scope="module")
def parts(task: Embedded) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from, and rows to score."""
    return halves(task.y, seed=0)


@parametrize_with_checks([MultiModalAdapter(epochs=10, learning_rate=0.01)])
def test_scikit_learn_accepts_the_estimator(
    estimator: MultiModalAdapter, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else the checks of array-API dispatch are skipped
    check(estimator)


def test_number_of_parameters() -> None:
    assert sum(each.numel() for each in AdapterNet(512).parameters()) == 107_712


def test_masks() -> None:
    strict, bias, none = (attention_mask(2, mask).numpy() for mask in MASKS)
    inf = np.inf
    np.testing.assert_array_equal(strict, [[-inf, -inf, 0], [-inf, -inf, 0], [0, 0, -inf]])
    np.testing.assert_array_equal(bias, [[0, 0, 1], [0, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(none, np.zeros((3, 3)))


@pytest.mark.parametrize("mask", MASKS)
def test_strict_mask_shifts_every_text_alike(mask: Any) -> None:
    torch.manual_seed(0)
    network = AdapterNet(DIM, mask, blend=1.0)
    images, texts = F.normalize(torch.randn(3, DIM), dim=-1), F.normalize(torch.randn(4, DIM), dim=-1)
    _, adapted = network(images, texts)
    spread = (adapted - adapted[:, :1]).abs().max().item()
    assert (spread < 1e-5) == (mask == "strict")
    torch.testing.assert_close(adapted.norm(dim=-1), torch.ones(3, 4))


def test_no_blend_is_zero_shot_and_images_do_not_meet() -> None:
    torch.manual_seed(0)
    images, texts = F.normalize(torch.randn(5, DIM), dim=-1), F.normalize(torch.randn(4, DIM), dim=-1)
    torch.testing.assert_close(AdapterNet(DIM, blend=0.0).cosines(images, texts), images @ texts.T)
    network = AdapterNet(DIM)
    torch.testing.assert_close(network.cosines(images, texts)[:2], network.cosines(images[:2], texts))


@pytest.mark.parametrize("mask", MASKS)
def test_equations(mask: Any) -> None:
    """The network against its equations, with torch's own attention, token by token."""
    torch.manual_seed(0)
    network = AdapterNet(DIM, mask).double()
    images, texts = (
        F.normalize(torch.randn(2, DIM), dim=-1).double(),
        F.normalize(torch.randn(4, DIM)).double(),
    )
    for image, adapted, cosines in zip(
        images, zip(*network(images, texts), strict=True), network.cosines(images, texts), strict=True
    ):
        sequence = torch.cat([texts, image[None]])
        hidden = network.down[1](network.down[0](sequence))
        added = attention_mask(4, mask).double()
        mixed, _ = network.attention(hidden, hidden, hidden, attn_mask=added, need_weights=False)
        shift = F.normalize(network.widen(F.gelu(network.narrow(mixed))), dim=-1)
        expected = F.normalize(0.2 * shift + 0.8 * sequence, dim=-1)
        torch.testing.assert_close(adapted[0], expected[-1])
        torch.testing.assert_close(adapted[1], expected[:-1])
        torch.testing.assert_close(cosines, expected[:-1] @ expected[-1])


def test_every_parameter_is_trained() -> None:
    torch.manual_seed(0)
    network = AdapterNet(DIM)
    images, texts = F.normalize(torch.randn(4, DIM), dim=-1), F.normalize(torch.randn(3, DIM), dim=-1)
    F.cross_entropy(network.cosines(images, texts), torch.tensor([0, 1, 2, 0])).backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert torch.isfinite(value.grad).all(), name


def test_learns_and_knows_other_classes(task: Embedded, parts: tuple[np.ndarray, np.ndarray]) -> None:
    _, test = parts
    # Only the first four classes are trained on; the last two it has never seen.
    base, new = (rows[np.isin(task.y[rows], [0, 1, 2, 3])] for rows in parts), test[task.y[test] > 3]
    shots, scored = base
    model = MultiModalAdapter().fit(task.images[shots], task.y[shots], class_texts=task.texts[:4])
    before = ((task.images[scored] @ task.texts[:4].T).argmax(1) == task.y[scored]).mean()
    assert model.score(task.images[scored], task.y[scored]) > before
    assert model.score(task.images[new], task.y[new] - 4, class_texts=task.texts[4:]) > 0.5
    np.testing.assert_allclose(model.predict_proba(task.images[test]).sum(1), 1, rtol=1e-5)
    assert model.predict_proba(task.images[test], class_texts=task.texts).shape == (len(test), CLASSES)
    assert model.validation_.accuracy <= 1
    assert model.learning_rate_ in model.learning_rate
    again = clone(model).fit(task.images[shots], task.y[shots], class_texts=task.texts[:4])
    np.testing.assert_array_equal(model.predict_proba(task.images), again.predict_proba(task.images))


def test_early_stopping_keeps_what_validates_best(
    task: Embedded, parts: tuple[np.ndarray, np.ndarray]
) -> None:
    pool, test = parts
    model = MultiModalAdapter(epochs=5, learning_rate=100.0)  # ruins whatever it trains
    model.fit(task.images[pool], task.y[pool], task.texts, X_val=task.images[test], y_val=task.y[test])
    assert model.score(task.images[test], task.y[test]) == pytest.approx(model.validation_.accuracy)


def test_the_best_setting_on_validation_is_kept(task: Embedded) -> None:
    one = [
        MultiModalAdapter(learning_rate=rate).fit(task.images, task.y, task.texts) for rate in (1e-5, 1e-2)
    ]
    both = MultiModalAdapter(learning_rate=(1e-5, 1e-2)).fit(task.images, task.y, task.texts)
    assert both.validation_ == max(each.validation_ for each in one)
    assert one[0].validation_ != one[1].validation_


def test_a_single_image_a_class_and_a_class_without_any(task: Embedded) -> None:
    model = MultiModalAdapter(epochs=2).fit(task.images[:3], task.y[:3], class_texts=task.texts)
    assert model.predict_proba(task.images).shape == (len(task.y), CLASSES)


def test_without_texts_the_mean_image_names_a_class(
    task: Embedded, parts: tuple[np.ndarray, np.ndarray]
) -> None:
    pool, test = parts
    names = np.array(task.names)[task.y]
    model = MultiModalAdapter(epochs=2).fit(task.images[pool], names[pool])
    assert list(model.classes_) == list(task.names)
    assert model.score(task.images[test], names[test]) > 0.8
    held = MultiModalAdapter(epochs=2).fit(
        task.images[pool], names[pool], None, task.images[test], names[test]
    )
    assert held.validation_.accuracy == pytest.approx(held.score(task.images[test], names[test]))


def test_the_length_of_an_embedding_does_not_matter_but_its_direction() -> None:
    task = make_task(24)
    lengths = np.logspace(-150, 150, 24)[:, None]
    plain, scaled = (
        MultiModalAdapter(epochs=2).fit(images, task.y, task.texts).predict_proba(task.images)
        for images in (task.images.astype(float), task.images * lengths)
    )
    np.testing.assert_allclose(plain, scaled, rtol=1e-3)
    blank = MultiModalAdapter(epochs=1, blend=0.0).fit(task.images, task.y, task.texts)
    np.testing.assert_allclose(blank.predict_proba(np.zeros((1, DIM))), 1 / CLASSES, rtol=1e-5)


def test_scale_fits_the_encoder() -> None:
    task = make_task(600, moved=0)
    cosines, y = torch.from_numpy(task.images @ task.texts.T), torch.from_numpy(task.y)
    found = fitted_scale(cosines, y)

    def loss(scale: float) -> float:
        return F.cross_entropy(math.exp(scale) * cosines, y).item()

    assert loss(found) <= min(loss(found - 0.05), loss(min(found + 0.05, math.log(100))))
    assert fitted_scale(-cosines, y) == pytest.approx(math.log(10), abs=1e-3)  # the lower bound


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.full((6, DIM), np.nan)}, "X: Input X contains NaN"),
        ({"X": np.full((6, DIM), np.inf)}, "X: Input X contains infinity"),
        ({"X": np.ones(DIM)}, "X: Expected 2D array"),
        ({"X": np.ones((0, DIM))}, "X: Found array with 0 sample"),
        ({"X": [["a"] * DIM] * 6}, "X: .*could not convert string"),
        ({"class_texts": np.full((CLASSES, DIM), np.nan)}, "class_texts holds NaN"),
        ({"class_texts": np.eye(CLASSES, DIM, k=-1)}, "class 0 has no name"),
        ({"class_texts": np.ones(DIM)}, r"class_texts must have shape \(N, D\)"),
        ({"class_texts": [["a"] * DIM] * 6}, "class_texts must be numbers"),
        ({"class_texts": np.ones((3, DIM + 1))}, "class_texts has 25 columns"),
        ({"class_texts": np.ones((1, DIM)), "y": np.zeros(6, int)}, "at least two classes"),
        ({"y": np.arange(5)}, "y has 5 labels for 6 images"),
        ({"y": np.zeros((6, 2), int)}, "y must be a column"),
        ({"y": None}, "y is None"),
        ({"y": np.zeros(6), "class_texts": None}, "y has one class"),
        ({"y": np.arange(6) / 7, "class_texts": None}, "Unknown label type"),
        ({"y": np.full(6, np.inf), "class_texts": None}, "y contains infinity"),
        ({"y": np.arange(6) + 1}, "whole numbers from 0 to 5"),
        ({"y": np.arange(6) / 2}, "whole numbers"),
        ({"X_val": np.ones((2, DIM))}, "both X_val and y_val"),
        ({"X_val": np.ones((2, DIM + 1)), "y_val": [0, 1]}, "X_val has 25 columns"),
        ({"X_val": np.ones((2, DIM)), "y_val": [0, 6]}, "y_val has labels that are not"),
        ({"X_val": np.ones((2, DIM)), "y_val": [0]}, "y_val has 1 labels for 2 images"),
    ],
)
def test_bad_input(task: Embedded, change: dict[str, Any], message: str) -> None:
    given = {"X": task.images[:6], "y": task.y[:6], "class_texts": task.texts} | change
    with pytest.raises(FewShotError, match=message) as caught:
        MultiModalAdapter(epochs=1).fit(**given)
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, ValueError)


def test_bad_input_to_a_fitted_model(task: Embedded) -> None:
    model = MultiModalAdapter(epochs=1).fit(task.images, task.y, task.texts)
    with pytest.raises(FewShotError, match="X has 25 features"):
        model.predict(np.ones((2, DIM + 1)))
    with pytest.raises(FewShotError, match="class_texts has 25 columns"):
        model.predict(task.images, np.ones((2, DIM + 1)))
    with pytest.raises(FewShotError, match="at least two classes"):
        model.predict(task.images, task.texts[:1])
    with pytest.raises(FewShotError, match="y has shape"):
        model.score(task.images, task.y[:-1])


@pytest.mark.parametrize(
    "options",
    [
        {"mask": "x"},
        {"blend": 2},
        {"epochs": 0},
        {"scale": math.inf},
        {"learning_rate": -1},
        {"learning_rate": (0.1, 0)},
    ],
)
def test_bad_options(task: Embedded, options: dict[str, Any]) -> None:
    with pytest.raises(FewShotError, match=next(iter(options))):
        MultiModalAdapter(**options).fit(task.images, task.y, task.texts)


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


def test_interval() -> None:
    found = interval(np.array([1.0, 2.0, 3.0]))  # 2 -+ 4.303 · 1 / sqrt(3)
    assert found == {"mean": 2.0, "low": -0.48, "high": 4.48}
    assert interval(np.array([5.0])) == {"mean": 5.0, "low": 5.0, "high": 5.0}


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
    spoilt[test] = _unit(np.random.default_rng(1).normal(size=(len(test), DIM)))
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
