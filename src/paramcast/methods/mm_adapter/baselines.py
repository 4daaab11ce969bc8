"""What the adapter is compared with; each is fitted on the same shots and selected on the same validation.

CLIP-Adapter: Gao et al., arXiv 2110.04544. Tip-Adapter: Zhang et al., ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.mm_adapter.fitting import FitSettings, Shots, evaluate, fit
from paramcast.methods.mm_adapter.network import AdapterNet, Mask

RATES = (1e-4, 1e-3, 1e-2)
"""Learning rates that every trained method tries."""


class Scorer(Protocol):
    """Images (N, D), class texts (C, D) -> logits (N, C), on the base classes or on others."""

    def __call__(self, images: Tensor, texts: Tensor) -> Tensor:
        """Score."""


@dataclass(frozen=True)
class Fitted:
    """A method after its selection: its best validation, its scorer, whether it can name new classes."""

    validation: tuple[float, float]
    scorer: Scorer
    open_vocabulary: bool = True


@dataclass(frozen=True)
class Task:
    """What every method is given: shots of the base classes, their texts (C, D), encoder's factor, seed."""

    shots: Shots
    texts: Tensor
    factor: float
    seed: int


def zero_shot(task: Task) -> Fitted:
    """Cosine of image and class text, nothing fitted."""
    nothing = nn.Module()
    score = evaluate(nothing, lambda images: task.factor * images @ task.texts.T, task.shots)
    return Fitted(score, lambda images, texts: task.factor * images @ texts.T)


def linear_probe(task: Task) -> Fitted:
    """A linear classifier of image embeddings; new classes are unknown to it."""

    def build() -> tuple[nn.Module, Scorer]:
        layer = nn.Linear(task.texts.shape[1], len(task.texts))
        return layer, lambda images, texts: task.factor * layer(images)

    return replace(_best_rate(task, build), open_vocabulary=False)


def clip_adapter(task: Task) -> Fitted:
    """A bottleneck of a quarter, ReLU after both layers, blended 0.2 / 0.8 into the image embedding."""

    def build() -> tuple[nn.Module, Scorer]:
        dim = task.texts.shape[1]
        body = nn.Sequential(
            nn.Linear(dim, dim // 4, bias=False),
            nn.ReLU(),
            nn.Linear(dim // 4, dim, bias=False),
            nn.ReLU(),
        )
        return (
            body,
            lambda images, texts: (
                task.factor * F.normalize(0.2 * body(images) + 0.8 * images, dim=-1) @ texts.T
            ),
        )

    return _best_rate(task, build)


def multi_modal_adapter(task: Task, mask: Mask = "bias") -> Fitted:
    """The method itself."""

    def build() -> tuple[nn.Module, Scorer]:
        network = AdapterNet(task.texts.shape[1], mask)
        return network, lambda images, texts: task.factor * network.cosines(images, texts)

    return _best_rate(task, build)


class TipCache(nn.Module):
    """Keys are the training images, values their classes.

    Args:
        shots: Its training images.
        classes: C.
    """

    def __init__(self, shots: Shots, classes: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(shots.images.clone())
        self.values = F.one_hot(shots.labels, classes).float()

    def forward(self, images: Tensor, beta: float) -> Tensor:
        """(N, D) -> affinities (N, C), exp(-beta (1 - cosine)) summed over a class's keys."""
        return (-beta * (1 - images @ self.keys.T)).exp() @ self.values


ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0)
BETAS = (1.0, 3.0, 5.5, 10.0, 30.0)


def tip_adapter(task: Task) -> Fitted:
    """Zero-shot logits plus alpha times the cache, which knows the base classes only."""
    return _tip_selected(task, TipCache(task.shots, len(task.texts)))


def tip_adapter_f(task: Task) -> Fitted:
    """Tip-Adapter with its keys trained, then alpha and beta selected anew."""
    start = _selected_pair(task, TipCache(task.shots, len(task.texts)))
    best: Fitted | None = None
    for rate in RATES:
        cache = TipCache(task.shots, len(task.texts))
        scorer = _tip_scorer(task, cache, *start)
        fit(cache, partial(scorer, texts=task.texts), task.shots, FitSettings(rate), task.seed)
        found = _tip_selected(task, cache)
        if best is None or found.validation > best.validation:
            best = found
    assert best is not None
    return best


def _tip_scorer(task: Task, cache: TipCache, alpha: float, beta: float) -> Scorer:
    def score(images: Tensor, texts: Tensor) -> Tensor:
        logits = task.factor * images @ texts.T
        known = texts.shape == task.texts.shape and torch.equal(texts, task.texts)
        return logits + alpha * cache(images, beta) if known else logits

    return score


def _selected_pair(task: Task, cache: TipCache) -> tuple[float, float]:
    pairs = [(alpha, beta) for alpha in ALPHAS for beta in BETAS]
    return max(pairs, key=lambda pair: _validated(task, cache, _tip_scorer(task, cache, *pair)))


def _tip_selected(task: Task, cache: TipCache) -> Fitted:
    scorer = _tip_scorer(task, cache, *_selected_pair(task, cache))
    return Fitted(_validated(task, cache, scorer), scorer)


def _validated(task: Task, module: nn.Module, scorer: Scorer) -> tuple[float, float]:
    return evaluate(module, lambda images: scorer(images, task.texts), task.shots)


def _best_rate(task: Task, build: Callable[[], tuple[nn.Module, Scorer]]) -> Fitted:
    """Fit once for each learning rate, keep the best on validation."""
    found = []
    for rate in RATES:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            module, scorer = build()
        score = fit(module, partial(scorer, texts=task.texts), task.shots, FitSettings(rate), task.seed)
        found.append(Fitted(score, scorer))
    return max(found, key=lambda each: each.validation)


METHODS: dict[str, Callable[[Task], Fitted]] = {
    "zero-shot": zero_shot,
    "linear probe": linear_probe,
    "CLIP-Adapter": clip_adapter,
    "Tip-Adapter": tip_adapter,
    "Tip-Adapter-F": tip_adapter_f,
    "Multi-Modal Adapter": multi_modal_adapter,
    "Multi-Modal Adapter, strict mask": lambda task: multi_modal_adapter(task, "strict"),
    "Multi-Modal Adapter, no mask": lambda task: multi_modal_adapter(task, "none"),
}
