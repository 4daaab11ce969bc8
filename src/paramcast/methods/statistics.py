"""`centre` and `whiten`: the statistics of the device in place of the statistics of the training set.

Li et al., "Revisiting batch normalization for practical domain adaptation" (arXiv 1603.04779); with
shrinkage, Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation"
(arXiv 2006.16971). For embeddings: Mu, Viswanath, "All-but-the-top" (arXiv 1702.01417) subtract the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.background import Background, Samples
from paramcast.methods.base import Method, Predictor, Settings, Support, shrunk
from paramcast.methods.modules import fused, predictor
from paramcast.video.models.parts import FeatureNorm
from paramcast.video.tasks.base import Asked
from paramcast.video.tasks.retrieval import embedded
from paramcast.video.training.bank import Bank

Moments = tuple[Tensor, Tensor]


def norms_of(module: nn.Module) -> dict[str, FeatureNorm]:
    """Return the norms of the trunks' features by modality: 'image' and 'text'."""
    found = {name: part for name, part in module.named_modules() if isinstance(part, FeatureNorm)}
    return {"text" if name.endswith("text_norm") else "image": part for name, part in found.items()}


def feature_moments(bank: Bank, asked: Asked) -> dict[str, Moments]:
    """Compute the mean and standard deviation (D,) of the features of the clips and texts, by modality."""
    frames = bank.all_frames(np.unique(asked.shown).tolist())
    texts = bank.texts[torch.from_numpy(np.unique(asked.texts))]
    return {
        name: (x.mean(0), x.std(0, unbiased=False).clamp(min=1e-4))
        for name, x in (("image", frames), ("text", texts))
    }


class Statistics(Method):
    """Moves the statistics of feature normalization towards those of the device.

    mean' = mean + w (mean of the device - mean of the training clips), w = n / (n + prior) for n clips.
    """

    def prepare(self, background: Background) -> None:
        """Compute the statistics of training clips."""
        super().prepare(background)
        self._reference = feature_moments(background.reference.bank, background.reference.asked)

    def normalized(self, support: Support, settings: Settings, spread: bool) -> nn.Module:
        """Make a copy of the base model, with the norms of the chosen modalities moved."""
        module = self.background.module()
        weight = shrunk(len(support.clips), float(settings["prior"]))
        own = feature_moments(support.samples.bank, support.asked)
        for name, norm in norms_of(module).items():
            if name in str(settings["of"]):
                (mean, deviation), (usual, spread_of) = own[name], self._reference[name]
                sides = len(norm.mean) // len(mean)
                norm.mean += weight * (mean - usual).repeat(sides)
                if spread:
                    norm.scale *= ((spread_of / deviation) ** weight).repeat(sides)
        return module


class Centre(Statistics):
    """Subtracts the mean of the support set from features, from fused features, or from embeddings."""

    identity: ClassVar[Settings | None] = {"of": "image+text", "prior": float("inf")}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the vectors, and of the clips that the training mean counts as."""
        features = [{"of": of, "prior": prior} for of in ("image", "image+text") for prior in (2.0, 16.0)]
        if task == "choice":  # the fused features of all options move alike: no choice changes
            return features
        if task == "qa":
            return [*features, {"of": "fused", "prior": 2.0}, {"of": "fused", "prior": 16.0}]
        embeddings = [
            {"of": "embeddings", "towards": towards, "prior": prior}
            for towards in ("training mean", "zero")
            for prior in (0.0, 8.0)
        ]
        return [*embeddings, features[1], features[3]]

    def prepare(self, background: Background) -> None:
        """Compute the means of features and of the base model's fused features or embeddings."""
        super().prepare(background)
        task = background.model.task
        if task.name == "qa":
            self._fused = self._mean_fused(background.reference, background.reference.asked)
        if task.name == "retrieval":
            self._embedded = self._mean_embedded(background.reference, background.reference.asked)

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Move a mean."""
        task, bank = self.background.model.task, support.samples.bank
        if settings["of"] == "embeddings":
            return self._in_embeddings(support, settings)
        if settings["of"] != "fused":
            return predictor(task, self.normalized(support, settings, spread=False), bank)
        module = self.background.module()
        weight = shrunk(len(support.clips), float(settings["prior"]))
        shift = weight * (self._fused - self._mean_fused(support.samples, support.asked))
        head = cast(nn.Linear, module.head)
        head.bias.add_(head.weight @ shift)  # the head of z + shift
        return predictor(task, module, bank)

    def _in_embeddings(self, support: Support, settings: Settings) -> Predictor:
        module, bank = self.background.frozen, support.samples.bank
        weight = shrunk(len(support.clips), float(settings["prior"]))
        means = self._mean_embedded(support.samples, support.asked)
        if settings["towards"] == "training mean":
            means = [own - usual for own, usual in zip(means, self._embedded, strict=True)]

        def predict(asked: Asked) -> Tensor:
            with torch.no_grad():
                shown, texts = (
                    F.normalize(x - weight * mean, dim=-1)
                    for x, mean in zip(embedded(module, bank, asked), means, strict=True)
                )
                return texts @ shown.T

        return predict

    def _mean_fused(self, samples: Samples, asked: Asked) -> Tensor:
        with torch.no_grad():
            task, module = self.background.model.task, self.background.frozen
            return fused(task, module, samples.bank, asked).mean(0)

    def _mean_embedded(self, samples: Samples, asked: Asked) -> list[Tensor]:
        with torch.no_grad():
            return [x.mean(0) for x in embedded(self.background.frozen, samples.bank, asked)]


class Whiten(Statistics):
    """Normalizes every feature by the mean and spread of the support set: an adaptive norm."""

    identity: ClassVar[Settings | None] = {"of": "image+text", "prior": float("inf")}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the modalities, and of the clips that the training statistics count as."""
        return [{"of": of, "prior": p} for of in ("image", "image+text") for p in (4.0, 16.0, 64.0)]

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Move means and spreads."""
        module = self.normalized(support, settings, spread=True)
        return predictor(self.background.model.task, module, support.samples.bank)
