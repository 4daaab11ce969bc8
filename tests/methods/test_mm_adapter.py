"""Multi-Modal Adapter: its size, its masks, its training, and input that cannot be used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from few_shot import CLASSES, DIM, make_task
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.nn import functional as F

from experiments.methods.mm_adapter.embedding import Embedded
from experiments.methods.mm_adapter.fewshot import halves
from paramcast.errors import InputError
from paramcast.methods import MultiModalAdapter
from paramcast.methods.mm_adapter import FewShotError
from paramcast.methods.mm_adapter.fitting import fitted_scale
from paramcast.methods.mm_adapter.network import MASKS, AdapterNet, attention_mask


@pytest.fixture(scope="module")
def task() -> Embedded:
    return make_task()


@pytest.fixture(scope="module")
def parts(task: Embedded) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from, and rows to score."""
    return halves(task.y, seed=0)


@parametrize_with_checks([MultiModalAdapter(steps=20, learning_rate=0.01)])
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


def test_the_bottleneck_begins_where_embeddings_differ(task: Embedded) -> None:
    rows = torch.from_numpy(np.concatenate([task.images, task.texts]))
    torch.manual_seed(0)
    net = AdapterNet(DIM)
    net.look_at(rows)
    seen = net.down[0](rows).detach()[:, : DIM - 1].numpy()
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-4)
    assert 0.5 < seen.var() < 2
    assert (np.diff(seen.var(0)) < 1e-6).all()
    # Of three embeddings two directions are known, of equal ones none: the others stay.
    net = AdapterNet(DIM)
    before = net.down[0].weight.clone()
    net.look_at(rows[:3])
    assert torch.equal(net.down[0].weight[2:], before[2:])
    assert not torch.equal(net.down[0].weight[:2], before[:2])
    net = AdapterNet(DIM)
    before = net.down[0].weight.clone()
    net.look_at(rows[:1].expand(5, -1))
    assert torch.equal(net.down[0].weight, before)


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
    model = MultiModalAdapter(steps=5, learning_rate=100.0)  # ruins whatever it trains
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
    model = MultiModalAdapter(steps=2).fit(task.images[:3], task.y[:3], class_texts=task.texts)
    assert model.predict_proba(task.images).shape == (len(task.y), CLASSES)


def test_without_texts_the_mean_image_names_a_class(
    task: Embedded, parts: tuple[np.ndarray, np.ndarray]
) -> None:
    pool, test = parts
    names = np.array(task.names)[task.y]
    model = MultiModalAdapter(steps=2).fit(task.images[pool], names[pool])
    assert list(model.classes_) == list(task.names)
    assert model.score(task.images[test], names[test]) > 0.8
    held = MultiModalAdapter(steps=2).fit(
        task.images[pool], names[pool], None, task.images[test], names[test]
    )
    assert held.validation_.accuracy == pytest.approx(held.score(task.images[test], names[test]))


def test_the_length_of_an_embedding_does_not_matter_but_its_direction() -> None:
    task = make_task(24)
    lengths = np.logspace(-150, 150, 24)[:, None]
    plain, scaled = (
        MultiModalAdapter(steps=2).fit(images, task.y, task.texts).predict_proba(task.images)
        for images in (task.images.astype(float), task.images * lengths)
    )
    np.testing.assert_allclose(plain, scaled, rtol=1e-3)
    blank = MultiModalAdapter(steps=1, blend=0.0).fit(task.images, task.y, task.texts)
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
        MultiModalAdapter(steps=1).fit(**given)
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, ValueError)


def test_bad_input_to_a_fitted_model(task: Embedded) -> None:
    model = MultiModalAdapter(steps=1).fit(task.images, task.y, task.texts)
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
        {"steps": 0},
        {"scale": math.inf},
        {"learning_rate": -1},
        {"learning_rate": (0.1, 0)},
    ],
)
def test_bad_options(task: Embedded, options: dict[str, Any]) -> None:
    with pytest.raises(FewShotError, match=next(iter(options))):
        MultiModalAdapter(**options).fit(task.images, task.y, task.texts)
