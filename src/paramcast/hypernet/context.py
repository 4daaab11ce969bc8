"""Input of the FDA: one vector for each device, from its support set, the true domain, or a constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from paramcast.hypernet.adr import AnchorReasoner, Gaussian, kl_divergence, pool


@dataclass(frozen=True)
class ContextInputs:
    """Known data of B devices.

    Attributes:
        anchors: (B, K, Ui) float32, the uplink features of the support clips' anchor frames.
        anchor_mask: (B, K) bool.
        queries: (B, M, Ut) float32, the uplink features of the support clips' queries.
        query_mask: (B, M) bool.
        clips: (B, K, Ui) float32, the mean uplink feature of each anchor's whole clip; training only.
        truth: (B, R) float32, the true domain; only the oracle reads it.
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
    """Context from the device's support set: statistics of its images and of its queries.

    The vector begins with [mean, log variance of the mean, spread] of the ADR's z, pooled over the images.
    Without an ADR it begins with [mean, spread] of the images' features. Then follow [mean, spread] of the
    queries and the logarithms of the two counts.

    Args:
        image_dim, text_dim: Lengths of the uplink features.
        latent: Length of the ADR's z; None for no ADR.
    """

    def __init__(self, image_dim: int, text_dim: int, latent: int | None) -> None:
        super().__init__()
        self.reasoner = None if latent is None else AnchorReasoner(image_dim, latent)
        self.dim = (2 * image_dim if latent is None else 3 * latent) + 2 * text_dim + 2

    def forward(self, inputs: ContextInputs) -> Context:
        """Compute the context vectors and the ADR's training loss."""
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
    """Use the posterior in half of the training steps if whole clips are given, else the prior."""
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
    """Context of the oracle: the true domain itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, inputs: ContextInputs) -> Context:
        """Return the true domain unchanged, with a loss of zero."""
        assert inputs.truth is not None
        return Context(inputs.truth, inputs.truth.new_zeros(()))


class ConstantContext(nn.Module):
    """Context of the control `constant`: the same vector for every device."""

    dim = 1

    def forward(self, inputs: ContextInputs) -> Context:
        """Return zeros, which is the normalized constant, so that the running mean does not matter."""
        return Context(inputs.anchors.new_zeros(len(inputs.anchors), 1), inputs.anchors.new_zeros(()))


def _moments(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of x (B, M, U) over M where mask (B, M); zeros for an empty set."""
    weight = mask[..., None] / mask.sum(-1)[:, None, None].clamp(min=1)
    mean = (x * weight).sum(1)
    variance = ((x - mean[:, None]) ** 2 * weight).sum(1)
    return mean, (variance + 1e-6).sqrt()


def _log_count(mask: Tensor) -> Tensor:
    return (mask.sum(-1, keepdim=True) + 1.0).log()
