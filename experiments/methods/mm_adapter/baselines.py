"""Baselines of the adapter; each is fitted on the same shots and selected on the same validation images.

CLIP-Adapter: Gao et al., arXiv 2110.04544. Tip-Adapter: Zhang et al., ECCV 2022. The linear probe is that of
CLIP (Radford et al., 2021): logistic regression on image embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Protocol

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.mm_adapter.estimator import RATES, MultiModalAdapter
from paramcast.methods.mm_adapter.fitting import FitSettings, Shots, Validation, fit, validate
from paramcast.methods.mm_adapter.network import Mask

ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0)
BETAS = (1.0, 3.0, 5.5, 10.0, 30.0)
PENALTIES = (0.01, 0.1, 1.0)
"""Inverse strengths of the probe's penalty; their number is that of the other methods' learning rates."""


class Scorer(Protocol):
    """Images (N, D), class texts (C, D) -> logits (N, C), on the base classes or on others."""

    def __call__(self, images: Tensor, texts: Tensor) -> Tensor:
        """Compute the logits."""


@dataclass(frozen=True)
class Fitted:
    """A method after its selection: its best validation, its scorer, whether it can name new classes."""

    validation: Validation
    scorer: Scorer
    open_vocabulary: bool = True


@dataclass(frozen=True)
class Task:
    """Input of every method.

    Attributes:
        shots: Shots of the base classes.
        texts: (C, D) float32 of the base classes, L2-normalized.
        scale: Logarithm of the factor of cosines, the same for all methods.
        seed: Seed of networks and of the order of images.
    """

    shots: Shots
    texts: Tensor
    scale: float
    seed: int

    @property
    def factor(self) -> float:
        """Factor of cosines."""
        return math.exp(self.scale)


def zero_shot(task: Task) -> Fitted:
    """Use the cosine of image and class text; nothing is fitted."""
    return _validated(task, lambda images, texts: task.factor * images @ texts.T)


def linear_probe(task: Task) -> Fitted:
    """Fit a logistic regression of image embeddings; it does not know new classes."""
    rows, labels = (task.factor * task.shots.images).numpy(), task.shots.labels.numpy()

    def fitted(penalty: float) -> Fitted:
        probe = LogisticRegression(C=penalty, max_iter=1000).fit(rows, labels)
        weight, bias = torch.zeros(task.texts.shape), torch.full((len(task.texts),), -math.inf)
        weight[probe.classes_], bias[probe.classes_] = _both_rows(probe)
        return _validated(task, lambda images, texts: task.factor * images @ weight.T + bias, False)

    return _best(map(fitted, PENALTIES))


def _both_rows(probe: LogisticRegression) -> tuple[Tensor, Tensor]:
    """Return weight (C, D) and bias (C,); of two classes, scikit-learn keeps only the row of the second."""
    weight, bias = (torch.from_numpy(each).float() for each in (probe.coef_, probe.intercept_))
    if len(weight) > 1:
        return weight, bias
    return torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])


def clip_adapter(task: Task) -> Fitted:
    """Fit a bottleneck of a quarter, ReLU after both layers, blended 0.2 / 0.8 into the image embedding."""
    dim = task.texts.shape[1]

    def fitted(rate: float) -> Fitted:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            body = nn.Sequential(
                nn.Linear(dim, dim // 4, bias=False),
                nn.ReLU(),
                nn.Linear(dim // 4, dim, bias=False),
                nn.ReLU(),
            )

        def scorer(images: Tensor, texts: Tensor) -> Tensor:
            adapted = F.normalize(0.2 * body(images) + 0.8 * images, dim=-1)
            return task.factor * adapted @ texts.T

        return _trained(task, body, scorer, rate)

    return _best(map(fitted, RATES))


def multi_modal_adapter(task: Task, mask: Mask = "strict") -> Fitted:
    """Fit the Multi-Modal Adapter with its defaults."""
    model = MultiModalAdapter(mask, scale=task.scale, random_state=task.seed)
    shots = task.shots
    model.fit(
        shots.images.numpy(),
        shots.labels.numpy(),
        task.texts.numpy(),
        shots.val_images.numpy(),
        shots.val_labels.numpy(),
    )
    return Fitted(
        model.validation_, lambda images, texts: task.factor * model.network_.cosines(images, texts)
    )


class TipCache(nn.Module):
    """Cache whose keys are the training images and whose values are their classes.

    Args:
        shots: Its training images.
        classes: C.
    """

    def __init__(self, shots: Shots, classes: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(shots.images.clone())
        self.values = F.one_hot(shots.labels, classes).float()

    def forward(self, images: Tensor, beta: float) -> Tensor:
        """Compute (N, D) -> affinities (N, C), exp(-beta (1 - cosine)) summed over a class's keys."""
        return (-beta * (1 - images @ self.keys.T)).exp() @ self.values


def tip_adapter(task: Task) -> Fitted:
    """Add alpha times the cache, which knows the base classes only, to zero-shot logits."""
    return _best_tip(task, TipCache(task.shots, len(task.texts)))[0]


def tip_adapter_f(task: Task) -> Fitted:
    """Train the keys of Tip-Adapter, then select alpha and beta again."""
    _, alpha, beta = _best_tip(task, TipCache(task.shots, len(task.texts)))

    def fitted(rate: float) -> Fitted:
        cache = TipCache(task.shots, len(task.texts))
        _trained(task, cache, _tip_scorer(task, cache, alpha, beta), rate)
        return _best_tip(task, cache)[0]

    return _best(map(fitted, RATES))


def _best_tip(task: Task, cache: TipCache) -> tuple[Fitted, float, float]:
    pairs = [
        (_validated(task, _tip_scorer(task, cache, alpha, beta)), alpha, beta)
        for alpha, beta in product(ALPHAS, BETAS)
    ]
    return max(pairs, key=lambda each: each[0].validation)


def _tip_scorer(task: Task, cache: TipCache, alpha: float, beta: float) -> Scorer:
    def score(images: Tensor, texts: Tensor) -> Tensor:
        logits = task.factor * images @ texts.T
        return logits + alpha * cache(images, beta) if torch.equal(texts, task.texts) else logits

    return score


def _trained(task: Task, module: nn.Module, scorer: Scorer, rate: float) -> Fitted:
    logits = partial(scorer, texts=task.texts)
    return Fitted(fit(module, logits, task.shots, FitSettings(rate), task.seed), scorer)


def _validated(task: Task, scorer: Scorer, open_vocabulary: bool = True) -> Fitted:
    return Fitted(validate(partial(scorer, texts=task.texts), task.shots), scorer, open_vocabulary)


def _best(found: Iterable[Fitted]) -> Fitted:
    """Return the first method with the best validation."""
    return max(found, key=lambda each: each.validation)


METHODS: dict[str, Callable[[Task], Fitted]] = {
    "zero-shot": zero_shot,
    "linear probe": linear_probe,
    "CLIP-Adapter": clip_adapter,
    "Tip-Adapter": tip_adapter,
    "Tip-Adapter-F": tip_adapter_f,
    "Multi-Modal Adapter": multi_modal_adapter,
    "Multi-Modal Adapter, two-way mask": partial(multi_modal_adapter, mask="bias"),
    "Multi-Modal Adapter, no mask": partial(multi_modal_adapter, mask="none"),
}
