"""What the FDA is given: one vector a device, from its support set, from the true domain, or from nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from paramcast.hypernet.adr import AnchorReasoner, Gaussian, kl_divergence, pool


@dataclass(frozen=True)
class ContextInputs:
    """What is known of B devices.

    Attributes:
        anchors: (B, K, Ui) float32, the uplink features of the support clips' anchor frames.
        anchor_mask: (B, K) bool.
        queries: (B, M, Ut) float32, the uplink features of the support clips' queries.
        query_mask: (B, M) bool.
        clips: (B, K, Ui) float32, the mean uplink feature of each anchor's whole clip; training only.
        truth: (B, R) float32, the true domain, which the oracle is given.
    """

    anchors: Tensor
    anchor_mask: Tensor
    queries: Tensor
    query_mask: Tensor
    clips: Tensor | None = None
    truth: Tensor | None = None


class Context(NamedTuple):
    """A context vector (B, C), and the ADR's training loss (), zero where there is no ADR."""

    vector: Tensor
    loss: Tensor


class SupportContext(nn.Module):
    """The device's own support set: what its images and its queries are like.

    The vector is [mean, log variance of the mean, spread] of the ADR's z pooled over the images, or without
    an ADR [mean, spread] of the images' features as they are; then [mean, spread] of the queries, and the
    logarithms of the two counts.

    Args:
        image_dim, text_dim: Lengths of the uplink features.
        latent: Length of the ADR's z; None for no ADR.
    """

    def __init__(self, image_dim: int, text_dim: int, latent: int | None) -> None:
        super().__init__()
        self.reasoner = None if latent is None else AnchorReasoner(image_dim, latent)
        self.dim = (2 * image_dim if latent is None else 3 * latent) + 2 * text_dim + 2

    def forward(self, inputs: ContextInputs) -> Context:
        """The vector, and what the ADR has still to learn."""
        loss = inputs.anchors.new_zeros(())
        if self.reasoner is None:
            images: tuple[Tensor, ...] = _moments(inputs.anchors, inputs.anchor_mask)
        else:
            images, loss = _reasoned(self.reasoner, inputs, loss)
        texts = _moments(inputs.queries, inputs.query_mask)
        counts = [_log_count(inputs.anchor_mask), _log_count(inputs.query_mask)]
        return Context(torch.cat([*images, *texts, *counts], -1), loss)


def _reasoned(
    reasoner: AnchorReasoner, inputs: ContextInputs, loss: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Use the posterior for half of the training steps where whole clips are given, else the prior."""
    clips: Gaussian = reasoner.prior(inputs.anchors)
    if reasoner.training and inputs.clips is not None:
        q, p, likelihood = reasoner.evidence(inputs.anchors, inputs.clips)
        bound = likelihood - kl_divergence(q, p)
        loss = -(bound * inputs.anchor_mask).sum() / inputs.anchor_mask.sum() / inputs.anchors.shape[-1]
        if torch.rand(()) < 0.5:
            clips = q
    device, spread = pool(clips, inputs.anchor_mask)
    return (device.mean, device.logvar, spread), loss


class TruthContext(nn.Module):
    """The oracle's: the true domain itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, inputs: ContextInputs) -> Context:
        """The truth as it is."""
        assert inputs.truth is not None
        return Context(inputs.truth, inputs.truth.new_zeros(()))


class ConstantContext(nn.Module):
    """The control's: the same vector for every device."""

    dim = 1

    def forward(self, inputs: ContextInputs) -> Context:
        """Zeros: what normalizing a constant gives in training, and here already without the running mean."""
        return Context(inputs.anchors.new_zeros(len(inputs.anchors), 1), inputs.anchors.new_zeros(()))


def _moments(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the set x (B, M, U) where mask (B, M); zeros of an empty set."""
    weight = mask[..., None] / mask.sum(-1)[:, None, None].clamp(min=1)
    mean = (x * weight).sum(1)
    variance = ((x - mean[:, None]) ** 2 * weight).sum(1)
    return mean, (variance + 1e-6).sqrt()


def _log_count(mask: Tensor) -> Tensor:
    return (mask.sum(-1, keepdim=True) + 1.0).log()
