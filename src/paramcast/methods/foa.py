"""`foa`: adaptation by forward passes alone, with a small edit that CMA-ES finds.

Niu et al., "Test-time model adaptation with only forward passes" (ICML 2024, arXiv 2404.01650).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import cma
import numpy as np
import torch
from torch import Tensor, nn

from paramcast.methods.background import Background, Samples
from paramcast.methods.base import Method, Predictor, Settings, Support
from paramcast.methods.modules import entropy, few_a_clip, fused, predictor
from paramcast.methods.statistics import norms_of
from paramcast.video.tasks.base import Asked
from paramcast.video.tasks.retrieval import embedded

DIRECTIONS = 16
"""Number of coefficients of the edit for each modality."""

POPULATION, ITERATIONS = 14, 4

Moments = tuple[Tensor, Tensor]


class Foa(Method):
    """A shift of the features along principal directions, two times 16 numbers.

    The fitness of an edit is the entropy of the answers + weight · (|mean - usual mean| + |spread - usual
    spread|). The moments are taken over the inputs of the head, or over the embeddings; the usual moments are
    taken over training clips. The paper edits prompts of a transformer, which these models do not have.
    """

    tasks = ("qa", "retrieval")
    identity: ClassVar[Settings | None] = {"weight": 1.0, "sigma": 0.0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the weight of the statistics and of the first edits' standard deviation."""
        return [{"weight": weight, "sigma": sigma} for weight in (0.1, 1.0, 10.0) for sigma in (0.05, 0.3)]

    def prepare(self, background: Background) -> None:
        """Compute statistics of training clips, and take the principal directions from the uplinks."""
        super().prepare(background)
        with torch.no_grad():
            self._usual = _moments(self._seen(background.frozen, background.reference)[0])
        uplinks = {"image": background.model.image_uplink, "text": background.model.text_uplink}
        self._directions = {
            name: torch.tensor(uplink.directions[:DIRECTIONS]) for name, uplink in uplinks.items()
        }

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Search with CMA-ES; the mean of the last population is the edit."""
        module, task = self.background.module(), self.background.model.task
        asked = few_a_clip(task, support.asked)
        means = {name: norm.mean.clone() for name, norm in norms_of(module).items()}

        def move(edit: np.ndarray) -> None:
            shifts = torch.from_numpy(edit.astype(np.float32)).reshape(2, DIRECTIONS)
            for (name, norm), shift in zip(sorted(norms_of(module).items()), shifts, strict=True):
                norm.mean.copy_(means[name] + shift @ self._directions[name])

        def fitness(edit: np.ndarray) -> float:
            move(edit)
            with torch.no_grad():
                seen, scaled = self._seen(module, support.samples, asked)
                return float(entropy(scaled) + float(settings["weight"]) * self._distance(_moments(seen)))

        if float(settings["sigma"]) > 0:
            move(_search(fitness, float(settings["sigma"]), seed))
        return predictor(task, module, support.samples.bank)

    def _seen(self, module: nn.Module, samples: Samples, asked: Asked | None = None) -> tuple[Tensor, Tensor]:
        """Compute the inputs of the head, or the embeddings, (N, W), and the scaled logits."""
        asked = samples.asked if asked is None else asked
        if self.background.model.task.name == "qa":
            z = fused(self.background.model.task, module, samples.bank, asked)
            return z, cast(nn.Linear, module.head)(z)
        shown, texts = embedded(module, samples.bank, asked)
        size = min(len(shown), len(texts))  # moments of both side by side
        return torch.cat([shown[:size], texts[:size]], 1), texts @ shown.T * cast(float, module.temperature)

    def _distance(self, own: Moments) -> Tensor:
        return sum(((a - b).norm() for a, b in zip(own, self._usual, strict=True)), torch.zeros(()))


def _search(fitness: Callable[[np.ndarray], float], sigma: float, seed: int) -> np.ndarray:
    """Run CMA-ES, starting without an edit."""
    options = {"popsize": POPULATION, "maxiter": ITERATIONS, "seed": seed % 2**31 + 1, "verbose": -9}
    search = cma.CMAEvolutionStrategy(np.zeros(2 * DIRECTIONS), sigma, options)
    while not search.stop():
        edits = search.ask()
        search.tell(edits, [fitness(edit) for edit in edits])
    found: np.ndarray = search.result.xfavorite
    return found


def _moments(x: Tensor) -> Moments:
    scale, mean = math.sqrt(x.shape[1]), x.mean(0)
    # This is six times as fast as `std` along the rows.
    return mean / scale, (x - mean).square().mean(0).sqrt() / scale
