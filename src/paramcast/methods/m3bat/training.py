"""Staged training of M3BAT: many networks at once, each with its own strength and its own rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
TaskLoss = Callable[[Tensor, Tensor], Tensor]
WARM_UP, SHARED = 0.1, 0.1
"""Shares of training: on the source alone, then aligned by the shared encoder; the branches get the rest."""
BETAS = (0.5, 0.999)
"""Betas of AdamW. Encoders and discriminators play a game against each other, and the usual momentum of 0.9
makes such games oscillate. With it, networks that differed only in their seed ended at contradicting
alignments.
"""


class M3BATDivergedError(ParamcastError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class Plan:
    """Options of a training.

    Attributes:
        steps: Number of optimizer steps, >= 1.
        batch: Number of source rows in a step; the number of target rows is the same.
        rate: Peak learning rate of AdamW; it falls to zero by half a cosine.
        decay: Weight decay.
        strength: Factor of the alignment loss, >= 0; for M networks side by side, a tuple of M factors.
        weights: (1 + B,) w_b of the shared representation and the branches; (1,) for one discriminator.
        alignment: By domain discriminators, by covariances (Deep CORAL), or none.
        staged: Warm-up, shared, then branches; otherwise everything from the first step ("end to end").
        progress: Show a progress bar.
    """

    steps: int
    batch: int
    rate: float
    decay: float
    strength: float | tuple[float, ...]
    weights: tuple[float, ...]
    alignment: Alignment
    staged: bool
    progress: bool


def ramp(p: float) -> float:
    """Compute lambda(p) = 2 / (1 + exp(-10 p)) - 1, from 0 to almost 1.

    p is in [0, 1], see `adversarial_share`.
    """
    return 2 / (1 + math.exp(-10 * p)) - 1


def adversarial_share(p: float, plan: Plan) -> float:
    """Compute the completed share in [0, 1] of the aligned part of training, at share p of all training.

    It is counted from the end of the warm-up, so that alignment begins at 0. Counted from the first step,
    lambda would begin at 0.76.
    """
    return max(0.0, p - WARM_UP) / (1 - WARM_UP) if plan.staged else p


def stage(p: float, plan: Plan) -> tuple[bool, bool]:
    """Decide whether, at share p of training, the domains are aligned and the branches are open."""
    aligned = plan.alignment != "none"
    if not plan.staged:
        return aligned, True
    return aligned and p >= WARM_UP, p >= WARM_UP + SHARED


def train(
    network: BranchNetwork,
    source: Tensor,
    labels: Tensor,
    target: Tensor | None,
    task_loss: TaskLoss,
    plan: Plan,
    rng: np.random.Generator,
    pools: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Train a network, or M side by side, in place, and leave it in evaluation mode.

        L = L_task + strength * lambda(p) * sum_b w_b L_dom,b

    Args:
        network: Trained in place.
        source: (Ns, ...) float32, or any other input of the network. Its batches are (batch, ...), or
            (M, batch, ...) where `plan.strength` is a tuple for M networks.
        labels: (Ns,) int64 classes, or float32 values.
        target: (Nt, ...), or None: then nothing is aligned. There is no argument for its labels.
        task_loss: (outputs, labels) -> (), or (M,).
        plan: Length, rates, weights, stages.
        rng: Draws the batches.
        pools: P index arrays: the source rows that network 0, ..., P - 1 may learn from. Network P starts
            again with the first array. M is a multiple of P, and networks with the same pool get the same
            batches. None: all rows.

    Returns:
        (steps,) or (steps, M), the loss of every step.

    Raises:
        M3BATDivergedError: A loss became infinite or NaN.
    """
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=plan.rate, betas=BETAS, weight_decay=plan.decay, fused=True
    )
    strength = torch.tensor(plan.strength)
    pools = pools or [np.arange(len(source))]
    source_rows = _batches(pools, plan, rng)
    target_rows = None
    if target is not None:
        target_rows = _batches([np.arange(len(target))] * len(pools), plan, rng)
    losses = []
    network.train()
    for step in tqdm(range(plan.steps), desc="M3BAT", unit="step", disable=None if plan.progress else True):
        p = step / plan.steps
        optimizer.param_groups[0]["lr"] = plan.rate * 0.5 * (1 + math.cos(math.pi * p))
        aligned, opened = stage(p, plan)
        encoded = network.encode(source[source_rows[step]], opened)
        loss = task_loss(network.predict(encoded), labels[source_rows[step]])
        if aligned and target is not None and target_rows is not None:
            other = network.encode(target[target_rows[step]], opened)
            share = ramp(adversarial_share(p, plan))
            loss = loss + share * strength * _alignment(network, encoded, other, plan)
        optimizer.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach().numpy())
        if not np.isfinite(losses[-1]).all():
            raise M3BATDivergedError(
                f"the loss is {losses[-1].max()} at step {step}; lower learning_rate or strength"
            )
    network.eval()
    return np.array(losses)


def domain_loss(source: Tensor, target: Tensor) -> Tensor:
    """Compute L_dom: binary cross-entropy (...,), each domain with half of the weight.

    The weight does not depend on the domain's number of rows.

    Args:
        source: (..., Ns) logits of being target.
        target: (..., Nt).
    """
    return 0.5 * (F.softplus(source).mean(-1) + F.softplus(-target).mean(-1))


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """Compute Deep CORAL (Sun and Saenko, 2016): ||C_s - C_t||_F^2 / (4 D^2), (...,).

    Args:
        source: (..., Ns, D) representations.
        target: (..., Nt, D).
    """
    return (_covariance(source) - _covariance(target)).square().sum((-2, -1)) / (4 * source.shape[-1] ** 2)


def _alignment(network: BranchNetwork, source: list[Tensor], target: list[Tensor], plan: Plan) -> Tensor:
    if plan.alignment == "coral":
        return coral_loss(torch.cat(source, dim=-1), torch.cat(target, dim=-1))
    logits = zip(plan.weights, network.domains(source), network.domains(target), strict=False)
    return torch.stack([weight * domain_loss(*sides) for weight, *sides in logits]).sum(0)


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(-2, keepdim=True)
    return centred.mT @ centred / max(1, x.shape[-2] - 1)


def _batches(pools: Sequence[np.ndarray], plan: Plan, rng: np.random.Generator) -> Tensor:
    """Draw (steps, M, batch) rows, or (steps, batch) of one network; a row returns after all of its pool."""
    size = min(plan.batch, *(len(pool) for pool in pools))
    drawn = torch.from_numpy(np.stack([endless(pool, size, plan.steps, rng) for pool in pools], axis=1))
    if isinstance(plan.strength, tuple):
        return drawn.repeat(1, len(plan.strength) // len(pools), 1)
    return drawn[:, 0]


def endless(pool: np.ndarray, size: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (steps, size) rows of a pool from one permutation after another."""
    each_round = len(pool) // size
    rounds = [rng.permutation(pool)[: each_round * size] for _ in range(-(-steps // each_round))]
    return np.concatenate(rounds).reshape(-1, size)[:steps]
