"""The staged training of M3BAT."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from paramcast.errors import ParamcastError
from paramcast.methods.m3bat.network import BranchNetwork

Alignment = Literal["adversarial", "coral", "none"]
WARM_UP, SHARED = 0.2, 0.3
"""Shares of training: on the source alone, then aligned by the shared encoder; the branches have the rest."""


class M3BATDivergedError(ParamcastError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        steps: Optimiser steps in all, >= 1.
        batch: Rows of the source in a step, and as many of the target.
        rate: Peak learning rate of AdamW; it falls to zero by half a cosine.
        decay: Weight decay.
        strength: Factor of the alignment loss, >= 0.
        weights: (1 + B,) w_b of the shared representation and the branches; (1,) for one discriminator.
        alignment: By domain discriminators, by covariances (Deep CORAL), or not at all.
        staged: Warm-up, shared, then branches; otherwise everything from the first step ("end to end").
        progress: Show a progress bar.
    """

    steps: int
    batch: int
    rate: float
    decay: float
    strength: float
    weights: tuple[float, ...]
    alignment: Alignment
    staged: bool
    progress: bool


def ramp(p: float) -> float:
    """lambda(p) = 2 / (1 + exp(-10 p)) - 1, from 0 to almost 1; p in [0, 1], see `adversarial_share`."""
    return 2 / (1 + math.exp(-10 * p)) - 1


def adversarial_share(p: float, plan: Plan) -> float:
    """The share in [0, 1] of the aligned part of training that is done, at share p of all of it.

    Counted from the end of the warm-up, so that alignment begins softly however long that was: counted from
    the first step, lambda would begin at 0.76.
    """
    return max(0.0, p - WARM_UP) / (1 - WARM_UP) if plan.staged else p


def stage(p: float, plan: Plan) -> tuple[bool, bool]:
    """Whether, at share p of training, the domains are aligned, and whether the branches are open."""
    aligned = plan.alignment != "none"
    if not plan.staged:
        return aligned, True
    return aligned and p >= WARM_UP, p >= WARM_UP + SHARED


def train(
    network: BranchNetwork,
    source: Tensor,
    labels: Tensor,
    target: Tensor | None,
    task_loss: Callable[[Tensor, Tensor], Tensor],
    plan: Plan,
    rng: np.random.Generator,
) -> list[float]:
    """Train the network in place: L = L_task + sum_b w_b lambda(p) L_dom,b, and leave it in evaluation mode.

    Args:
        network: Trained in place.
        source: (Ns, F) or (Ns, C, T) float32.
        labels: (Ns,) int64 classes, or float32 values.
        target: (Nt, ...) float32, or None: then nothing is aligned. There is no argument for its labels.
        task_loss: (outputs, labels) -> ().
        plan: Length, rates, weights, stages.
        rng: Draws the batches.

    Returns:
        The loss of every step.

    Raises:
        M3BATDivergedError: The loss became infinite or NaN.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=plan.decay, fused=True)
    source_batches = _batches(len(source), plan.batch, rng)
    target_batches = _batches(len(target), plan.batch, rng) if target is not None else None
    losses: list[float] = []
    network.train()
    for step in tqdm(range(plan.steps), desc="M3BAT", unit="step", disable=None if plan.progress else True):
        p = step / plan.steps
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * 0.5 * (1 + math.cos(math.pi * p))
        aligned, opened = stage(p, plan)
        rows = next(source_batches)
        encoded = network.encode(source[rows], opened)
        loss = task_loss(network.predict(encoded), labels[rows])
        if aligned and target is not None and target_batches is not None:
            other = network.encode(target[next(target_batches)], opened)
            loss = loss + plan.strength * ramp(adversarial_share(p, plan)) * _alignment(
                network, encoded, other, plan
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise M3BATDivergedError(
                f"the loss is {losses[-1]} at step {step}; lower learning_rate or strength"
            )
    network.eval()
    return losses


def domain_loss(logits: Tensor, is_target: Tensor) -> Tensor:
    """L_dom: binary cross-entropy (), each domain with half of the weight whatever its number of rows.

    Args:
        logits: (N,) of being target.
        is_target: (N,) float, 0 or 1; both occur.
    """
    each = F.binary_cross_entropy_with_logits(logits, is_target, reduction="none")
    return 0.5 * (
        (each * is_target).sum() / is_target.sum() + (each * (1 - is_target)).sum() / (1 - is_target).sum()
    )


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """Deep CORAL (Sun and Saenko, 2016): ||C_s - C_t||_F^2 / (4 D^2) of representations (Ns, D), (Nt, D)."""
    return (_covariance(source) - _covariance(target)).square().sum() / (4 * source.shape[1] ** 2)


def _alignment(network: BranchNetwork, source: list[Tensor], target: list[Tensor], plan: Plan) -> Tensor:
    if plan.alignment == "coral":
        return coral_loss(torch.cat(source, dim=1), torch.cat(target, dim=1))
    both = [torch.cat(pair) for pair in zip(source, target, strict=True)]
    is_target = torch.cat([torch.zeros(len(source[0])), torch.ones(len(target[0]))])
    found = [domain_loss(logits, is_target) for logits in network.domains(both)]
    weights = torch.tensor(plan.weights[: len(found)])
    return (weights * torch.stack(found)).sum()


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred.T @ centred / max(1, len(x) - 1)


def _batches(rows: int, size: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Index tensors without end: every row once before any row again."""
    while True:
        order = rng.permutation(rows)
        for start in range(0, max(1, rows - rows % size), size):
            yield torch.from_numpy(order[start : start + size])
