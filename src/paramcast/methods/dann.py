"""`dann_base`: a base model that is trained to have inner features without information on the domain.

Ganin et al., "Domain-adversarial training of neural networks" (JMLR 2016, arXiv 1505.07818).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.background import Background
from paramcast.methods.base import Method, Predictor, Settings, Support, Traffic
from paramcast.methods.bases import new_base, train_base
from paramcast.methods.m3bat.network import reverse_gradient
from paramcast.methods.modules import predictor
from paramcast.video.shifts.fleet import Device
from paramcast.video.tasks import Task
from paramcast.video.training.bank import Bank
from paramcast.video.training.plan import PLAIN_SHARE

STRENGTHS = (0.1, 0.3, 1.0)
"""Factors of the discriminator's loss. They are constant, since the steps of `fit` know no progress."""

_BATCH = 64  # number of clips of training devices in a step
_HIDDEN = 128


class DannBase(Method):
    """Task's loss + strength · cross-entropy of the training devices' domains, behind a gradient reversal.

    The domain of a training device is the kinds of its cameras, whether it has its own vocabulary, and the
    most frequent category of its clips.
    """

    note: ClassVar[str] = "another base model"

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the discriminator's strength."""
        return [{"strength": strength} for strength in STRENGTHS]

    def prepare(self, background: Background) -> None:
        """Train a base model for every strength, or read it from the folder."""
        super().prepare(background)
        self._bases = {strength: self._trained(strength) for strength in STRENGTHS}

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Take the other base model."""
        base = self._bases[float(settings["strength"])]
        return predictor(self.background.model.task, base, support.samples.bank)

    def traffic(self, support: Support, settings: Settings) -> Traffic:
        """Return the bytes of the model, which is sent once."""
        tensors = self._bases[float(settings["strength"])].state_dict().values()
        return Traffic(down=sum(4 * tensor.numel() for tensor in tensors))

    def _trained(self, strength: float) -> nn.Module:
        data, task = self.background.material, self.background.model.task
        groups = [[device for group in groups for device in group] for groups in (data.devices, data.plain)]
        numbers = {
            domain: n for n, domain in enumerate(sorted({_domain(d.device) for g in groups for d in g}))
        }
        base = new_base(self.background, "adversarial")
        some = inner_features(task, base, data.bank, data.clips[0].items[:1], np.random.default_rng(0))
        with torch.random.fork_rng():
            torch.manual_seed(self.background.model.config.seed)
            judge = nn.Sequential(
                nn.Linear(some.shape[1], _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, len(numbers))
            )

        def adversarial(module: nn.Module, rng: np.random.Generator) -> Tensor:
            items, domains = [], []
            for spoilt in rng.random(_BATCH) >= PLAIN_SHARE:
                group = groups[0 if spoilt else 1]
                device = group[rng.integers(len(group))]
                clip = device.clips[rng.integers(len(device.clips))]
                items.append(clip.items[rng.integers(len(clip.items))])
                domains.append(numbers[_domain(device.device)])
            inner = inner_features(task, module, data.bank, np.stack(items), rng)
            return strength * F.cross_entropy(judge(reverse_gradient(inner)), torch.tensor(domains))

        return train_base(self.background, f"adversarial {strength}", base, adversarial, judge=judge)


def inner_features(
    task: Task, module: nn.Module, bank: Bank, items: np.ndarray, rng: np.random.Generator
) -> Tensor:
    """Compute inputs of the last layer, or both embeddings side by side, (N, W) of items (N, 3 + options)."""
    frames, mask = bank.some_frames(items[:, 0], rng)
    texts = bank.some_texts(items[:, 1])
    if task.name == "retrieval":
        return torch.cat(module(frames, mask, texts), -1)
    assert isinstance(module.fusion, nn.Module)
    texts = texts[:, None]
    if task.options:
        offered = bank.some_texts(items[:, 3:])
        texts = torch.cat([texts.expand(offered.shape), offered], -1)
    fused: Tensor = module.fusion(frames, mask, texts)
    return fused.mean(1)


def _domain(device: Device) -> tuple[str, bool, str]:
    """Return the kinds of a device's cameras, whether it has its own vocabulary, and its main category."""
    shares = device.categories
    kinds = "+".join(camera.kind for camera in device.cameras)
    return kinds, device.vocabulary is not None, max(shares, key=lambda name: shares[name]) if shares else ""
