"""Multi-Modal Adapter: its size, its masks, its training, the few-shot protocol, the baselines."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn import functional as F

from paramcast.errors import InputError
from paramcast.methods import MultiModalAdapter
from paramcast.methods.mm_adapter import FewShotError
from paramcast.methods.mm_adapter.baselines import METHODS, TipCache
from paramcast.methods.mm_adapter.benchmark import measure
from paramcast.methods.mm_adapter.embedding import Embedded, class_name, embed_task
from paramcast.methods.mm_adapter.fewshot import base_new, draw_shots, harmonic_mean
from paramcast.methods.mm_adapter.network import MASKS, AdapterNet, attention_mask

DIM, CLASSES = 24, 6


def make_task(rows: int = 72, seed: int = 0, rotated: float = 0.8) -> Embedded:
    """Texts, and images about them that are all shifted by one vector, as the gap between modalities is."""
    rng = np.random.default_rng(seed)
    texts = _unit(rng.normal(size=(CLASSES, DIM)))
    gap = rotated * _unit(rng.normal(size=(CLASSES, DIM)))  # each class has moved, in a direction of its own

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count) % CLASSES
        return _unit(texts[y] + gap[y] + 0.25 * rng.normal(size=(count, DIM))), y

    return Embedded(tuple("abcdef"), texts, *images(rows), *images(rows), 20.0)


def _unit(rows: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


@pytest.fixture(scope="module")
def task() -> Embedded:
    return make_task()


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


def test_every_parameter_is_trained() -> None:
    torch.manual_seed(0)
    network = AdapterNet(DIM)
    loss = F.cross_entropy(
        network.cosines(torch.randn(4, DIM), torch.randn(3, DIM)), torch.tensor([0, 1, 2, 0])
    )
    loss.backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert torch.isfinite(value.grad).all(), name


def test_learns_and_knows_other_classes(task: Embedded) -> None:
    model = MultiModalAdapter(scale=math.log(20), epochs=40, learning_rate=0.003)
    model.fit(task.pool, task.pool_y, class_texts=task.texts)
    before = ((task.test @ task.texts.T).argmax(1) == task.test_y).mean()
    assert model.score(task.test, task.test_y) >= before
    np.testing.assert_allclose(model.predict_proba(task.test).sum(1), 1, rtol=1e-5)
    assert model.predict_proba(task.test, class_texts=task.texts[:4]).shape == (len(task.test), 4)
    assert 0 <= model.validation_ <= 1
    again = clone(model).fit(task.pool, task.pool_y, class_texts=task.texts)
    np.testing.assert_array_equal(model.predict_proba(task.test), again.predict_proba(task.test))


def test_early_stopping_keeps_what_validates_best(task: Embedded) -> None:
    model = MultiModalAdapter(epochs=5, learning_rate=100.0, scale=math.log(20))  # ruins whatever it trains
    model.fit(task.pool, task.pool_y, task.texts, X_val=task.test, y_val=task.test_y)
    assert model.score(task.test, task.test_y) == pytest.approx(model.validation_)


def test_a_single_image_a_class_and_a_class_without_any(task: Embedded) -> None:
    model = MultiModalAdapter(epochs=2).fit(task.pool[:3], task.pool_y[:3], class_texts=task.texts)
    assert model.predict(task.test).max() < CLASSES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.full((6, DIM), np.nan)}, "X holds NaN"),
        ({"X": np.zeros((6, DIM))}, "row of zeros"),
        ({"X": np.ones(DIM)}, r"X must have shape \(N, D\)"),
        ({"X": [["a"] * DIM] * 6}, "X must be numbers"),
        ({"class_texts": np.ones((3, DIM + 1))}, "class_texts has 25 columns"),
        ({"class_texts": np.ones((1, DIM)), "y": np.zeros(6, int)}, "at least two classes"),
        ({"y": np.arange(5)}, "y has shape"),
        ({"y": np.arange(6) + 1}, "whole numbers from 0 to 5"),
        ({"y": np.arange(6) / 2}, "whole numbers"),
        ({"X_val": np.ones((2, DIM))}, "both X_val and y_val"),
    ],
)
def test_bad_input(task: Embedded, change: dict[str, Any], message: str) -> None:
    given = {"X": task.pool[:6], "y": task.pool_y[:6], "class_texts": task.texts} | change
    with pytest.raises(FewShotError, match=message) as caught:
        MultiModalAdapter(epochs=1).fit(**given)
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "options", [{"mask": "x"}, {"blend": 2}, {"epochs": 0}, {"scale": math.inf}, {"learning_rate": -1}]
)
def test_bad_options(task: Embedded, options: dict[str, Any]) -> None:
    with pytest.raises(FewShotError, match=next(iter(options))):
        MultiModalAdapter(**options).fit(task.pool, task.pool_y, task.texts)


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


def test_harmonic_mean() -> None:
    assert harmonic_mean(50, 100) == pytest.approx(66.6667, abs=1e-3)
    assert harmonic_mean(0, 100) == 0


def test_tip_cache_finds_its_own_keys(task: Embedded) -> None:
    from paramcast.methods.mm_adapter.fitting import Shots

    images, y = torch.from_numpy(task.pool), torch.from_numpy(task.pool_y)
    affinities = TipCache(Shots(images, y, images, y), CLASSES)(images, beta=100.0)
    assert (affinities.argmax(1) == y).all()


def test_benchmark_rows(task: Embedded) -> None:
    rows = measure(task, [2], 1, "ceil", lambda: None)
    assert [row["method"] for row in rows] == list(METHODS)
    by_name = {row["method"]: row for row in rows}
    assert by_name["linear probe"]["new"] is None
    assert by_name["Tip-Adapter"]["new"] == by_name["zero-shot"]["new"]  # its cache has no new class
    assert all(0 <= row["base"] <= 100 for row in rows)


def test_embedding_of_a_collection() -> None:
    from paramcast.models.retrieval import RetrievalModel

    clips = tuple(
        SimpleNamespace(id=f"clip{n}", category=None, extra={"equipment": ["rope", "ball"][n % 2]})
        for n in range(40)
    )
    collection: Any = SimpleNamespace(clips=clips, name="gym")
    store = SimpleNamespace(
        clips=lambda requests: [np.ones((1 + len(clip) % 3, 8), np.float32) for clip, _ in requests],
        texts=lambda texts: np.eye(len(texts), 5, dtype=np.float32),
    )
    config = SimpleNamespace(task="retrieval", collection="other", seed=0, clips={"test": []})
    base = RetrievalModel(8, 5, width=DIM).eval()
    model: Any = SimpleNamespace(base=base, config=config, store=lambda _: store)
    task = embed_task(model, collection, "equipment", least=2)
    assert task.names == ("ball", "rope")
    assert task.texts.shape == (2, DIM)
    assert len(task.pool) + len(task.test) == 40
    np.testing.assert_allclose(np.linalg.norm(task.pool, axis=1), 1, rtol=1e-5)
    with pytest.raises(FewShotError, match="fewer than two classes"):
        embed_task(model, collection, "level")
    with pytest.raises(FewShotError, match="retrieval"):
        embed_task(SimpleNamespace(base=None, config=config), collection, "equipment")  # type: ignore[arg-type]


def test_class_names() -> None:
    clip: Any = SimpleNamespace(
        category="3", extra={"primaryMuscles": ["neck", "chest"], "level": None, "force": []}
    )
    assert class_name(clip, "category") == "sports"
    assert class_name(clip, "primaryMuscles") == "neck"
    assert class_name(clip, "level") is None
    assert class_name(clip, "force") is None
