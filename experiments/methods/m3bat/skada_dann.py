"""Deep DANN of skada (scikit-adaptation.github.io), as a baseline for classes.

Training loop, losses and module are from skada; encoder, discriminator, optimizer and rule of choice are the
same as ours. One difference remains: the factor of the domain loss is constant over all steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from sklearn import config_context
from torch import Tensor, nn

from paramcast.errors import MissingExtraError
from paramcast.methods.m3bat.estimators import STRENGTHS, M3BATClassifier
from paramcast.methods.m3bat.network import BranchNetwork, Discriminator, reverse_gradient
from paramcast.methods.m3bat.selection import choose, folds, judge, target_weights
from paramcast.methods.m3bat.shift import summarize_windows
from paramcast.methods.m3bat.training import BETAS, endless

NETWORKS = 2
"""Networks of each strength: half of our number, since they are trained one after the other."""


class SkadaDANN:
    """DANN of skada, with the part of M3BATClassifier's interface that the benchmark uses.

    Args:
        steps: Optimizer steps of every network.
        random_state: Seed.

    Attributes:
        classes_: (K,) sorted.
        strength_: The chosen factor of the domain loss.
    """

    def __init__(self, steps: int, random_state: int) -> None:
        self.steps = steps
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray, sample_domain: np.ndarray) -> Self:
        """Train networks of every strength, one after the other, and keep those of the best strength.

        Args:
            X: (N, F) or (N, T, C).
            y: (N,) labels, masked at target rows.
            sample_domain: (N,) positive for source, negative for target.

        Raises:
            MissingExtraError: skada or skorch is not installed.
        """
        source, rng = sample_domain > 0, np.random.default_rng(self.random_state)
        axes = tuple(range(X.ndim - 1))
        self._mean, deviation = X[source].mean(axes), X[source].std(axes)
        self._deviation = np.where(deviation > 0, deviation, np.inf)
        scaled = self._scaled(X)
        self.classes_, labels = np.unique(y[source], return_inverse=True)
        codes = np.full(len(y), -1)
        codes[source] = labels
        held_out = folds(sample_domain[source], NETWORKS, rng)
        pools = [np.setdiff1d(np.flatnonzero(source), np.flatnonzero(source)[rows]) for rows in held_out]
        pools = [np.concatenate([pool, np.flatnonzero(~source)]) for pool in pools]
        weights = target_weights(*(_table(scaled[side]) for side in (source, ~source)))
        trials, fitted = [], []
        for strength in STRENGTHS["adversarial"]:
            nets = [
                self._net(strength, number, scaled).fit(scaled[rows], codes[rows], sample_domain[rows])
                for number, rows in enumerate(pools)
            ]
            answers = np.stack([_answers(net, scaled) for net in nets])
            told, asked = answers[:, source], answers[:, ~source]
            trials.append(judge("classification", strength, told, asked, labels, held_out, weights))
            fitted.append(nets)
        chosen = choose(trials)
        self._nets, self.strength_ = fitted[chosen], trials[chosen].strength
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Compute probabilities (N, K), the mean over the networks."""
        found: np.ndarray = np.mean([_answers(net, self._scaled(X)) for net in self._nets], axis=0)
        return found

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        scaled = ((X - self._mean) / self._deviation).astype(np.float32)
        return scaled if X.ndim == 2 else np.ascontiguousarray(scaled.transpose(0, 2, 1))

    def _net(self, strength: float, number: int, scaled: np.ndarray) -> Any:
        try:
            with config_context():  # skada's import switches metadata routing on globally
                from skada.deep import DANN
                from skorch.callbacks import LRScheduler
        except ModuleNotFoundError as error:
            raise MissingExtraError("the DANN of skada", "methods") from error
        seed = self.random_state * NETWORKS + number
        torch.manual_seed(seed)
        defaults = M3BATClassifier()
        decay = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=self.steps, step_every="batch")
        net = DANN(
            _Module(scaled, len(self.classes_), defaults.hidden, defaults.dropout),
            layer_name="encoder",
            reg=strength,
            domain_classifier=_Domains(defaults.hidden),
            max_epochs=1,
            batch_size=defaults.batch_size,
            optimizer=torch.optim.AdamW,
            optimizer__lr=defaults.learning_rate,
            optimizer__betas=BETAS,
            optimizer__weight_decay=defaults.weight_decay,
            callbacks=[decay],
            train_split=None,
            verbose=0,
        )
        draws = {"steps": self.steps, "seed": seed}
        return net.set_params(
            iterator_train=_Batches, **{f"iterator_train__{key}": value for key, value in draws.items()}
        )


class _Module(nn.Module):
    """Network of one branch, in skada's form: alignment acts on the outputs of the layer `encoder`."""

    def __init__(self, scaled: np.ndarray, classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        columns, windows = scaled.shape[1], scaled.ndim == 3
        network = BranchNetwork(1, [range(columns)], columns, windows, classes, hidden, dropout, joint=False)
        self.encoder = nn.Sequential(_Alone(network.encoders[0]))
        self.head = _Alone(network.heads[0])

    def forward(self, X: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Compute (N, F) or (N, C, T) -> (N, K) logits."""
        logits: Tensor = self.head(self.encoder(X))
        return logits


class _Alone(nn.Module):
    """A module for M networks side by side, used for one network without the axis of networks."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.module(x[None])[0]
        return found


class _Domains(nn.Module):
    """Probability of being target. The discriminator of skada 0.6 is a softmax of one number: always 1."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.discriminator = Discriminator(hidden, hidden // 2)

    def forward(self, x: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        found: Tensor = self.discriminator(reverse_gradient(x)).sigmoid()[:, 0]
        return found


class _Batches:
    """Batches with the same number of source and target rows in skada's form; its iterator takes single rows.

    Args:
        dataset: skada's, with X (N, ...), y (N,) and sample_domain (N,).
        batch_size: Rows of either side.
        steps: Number of batches.
        seed: Seed of the draws.
    """

    def __init__(self, dataset: Any, batch_size: int, steps: int, seed: int) -> None:
        rng, self.dataset = np.random.default_rng(seed), dataset
        source = dataset.sample_domain.numpy() >= 0
        sides = [np.flatnonzero(side) for side in (source, ~source)]
        size = min(batch_size, *(len(side) for side in sides))
        self.rows = torch.from_numpy(np.hstack([endless(side, size, steps, rng) for side in sides]))

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        data = self.dataset
        for rows in self.rows:
            yield {"X": data.X[rows], "sample_domain": data.sample_domain[rows]}, data.y[rows]


def _table(scaled: np.ndarray) -> np.ndarray:
    return scaled if scaled.ndim == 2 else summarize_windows(scaled.swapaxes(1, 2))


def _answers(net: Any, scaled: np.ndarray) -> np.ndarray:
    found: np.ndarray = net.predict_proba(scaled, sample_domain=np.full(len(scaled), -1), allow_source=True)
    return found
