"""What the FDA is given: one vector a device, from its support set, from the true domain, or from nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from paramcast.adaptor.adr import AnchorReasoner, Gaussian, kl_divergence, pool


@dataclass(frozen=True)
class ContextInputs:
    """What is known of B devices.

    Attributes:
        anchors: (B, K, Ui) float32, the uplink feature of each support clip's anchor frame.
        anchor_mask: (B, K) bool.
        queries: (B, M, Ut) float32, the uplink features of the support clips' queries.
        query_mask: (B, M) bool.
        clips: (B, K, Ui) float32, the mean uplink feature of each whole clip; training only.
        truth: (B, R) float32, the true domain; what the oracle is told.
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
    """The device's own support set: the ADR's pooled distributions, and moments of its queries' features.

    The vector is [mean, log variance of the mean, spread] of z, [mean, spread] of the queries, and the
    logarithms of the two counts.
    """

    def __init__(self, image_dim: int, text_dim: int, latent: int) -> None:
        super().__init__()
        self.reasoner = AnchorReasoner(image_dim, latent)
        self.dim = 3 * latent + 2 * text_dim + 2

    def forward(self, inputs: ContextInputs) -> Context:
        """Use the posterior for half of the training steps where whole clips are given, else the prior."""
        loss = inputs.anchors.new_zeros(())
        clips: Gaussian = self.reasoner.prior(inputs.anchors)
        if self.training and inputs.clips is not None:
            q, p, likelihood = self.reasoner.evidence(inputs.anchors, inputs.clips)
            bound = likelihood - kl_divergence(q, p)
            loss = -(bound * inputs.anchor_mask).sum() / inputs.anchor_mask.sum() / bound.shape[-1]
            if torch.rand(()) < 0.5:
                clips = q
        device, spread = pool(clips, inputs.anchor_mask)
        texts = _moments(inputs.queries, inputs.query_mask)
        counts = [_log_count(inputs.anchor_mask), _log_count(inputs.query_mask)]
        return Context(torch.cat([device.mean, device.logvar, spread, *texts, *counts], -1), loss)


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
        """Zeros: what normalising a constant gives in training, and here already without the running mean."""
        return Context(inputs.anchors.new_zeros(len(inputs.anchors), 1), inputs.anchors.new_zeros(()))


def _moments(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the set x (B, M, U) where mask (B, M); zeros of an empty set."""
    weight = mask[..., None] / mask.sum(-1)[:, None, None].clamp(min=1)
    mean = (x * weight).sum(1)
    variance = ((x - mean[:, None]) ** 2 * weight).sum(1)
    return mean, (variance + 1e-6).sqrt()


def _log_count(mask: Tensor) -> Tensor:
    return (mask.sum(-1, keepdim=True) + 1.0).log()
