"""AnchorFrame Distribution Reasoner: infers the distribution of a clip's mean feature from one frame.

CDC-MMPG (Ji et al., arXiv 2406.01601). A conditional variational model (Sohn et al., NeurIPS 2015): the
server uses the prior p(z | anchor). The posterior q(z | anchor, whole clip) exists only in training. The loss
term KL(q || p) pulls it towards the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CALIBRATION_DRAWS = 64
"""Number of draws of z for each validation clip."""

_LOGVAR = (-6.0, 4.0)  # keeps exp(logvar) and its inverse well inside float32


@dataclass(frozen=True)
class Gaussian:
    """Diagonal Gaussian: mean and logvar (..., L); the standard deviation is exp(logvar / 2)."""

    mean: Tensor
    logvar: Tensor

    def sample(self) -> Tensor:
        """Draw one reparameterized sample (..., L)."""
        return self.mean + (self.logvar / 2).exp() * torch.randn_like(self.mean)

    def log_prob(self, x: Tensor) -> Tensor:
        """Compute the log density of x (..., L), summed over L -> (...)."""
        normed = (x - self.mean) ** 2 / self.logvar.exp()
        return -0.5 * (normed + self.logvar + torch.log(torch.tensor(2 * torch.pi))).sum(-1)


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """Compute KL(q || p) >= 0, summed over L -> (...)."""
    ratio = (q.logvar - p.logvar).exp()
    distance = (q.mean - p.mean) ** 2 / p.logvar.exp()
    return 0.5 * (ratio + distance - 1 - q.logvar + p.logvar).sum(-1)


class GaussianNet(nn.Module):
    """A small network that gives a Gaussian; its mean starts as a linear map of the input."""

    def __init__(self, dim_in: int, dim_out: int, hidden: int = 128) -> None:
        super().__init__()
        self.skip = nn.Linear(dim_in, dim_out)
        last = nn.Linear(hidden, 2 * dim_out)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.body = nn.Sequential(nn.Linear(dim_in, hidden), nn.GELU(), last)

    def forward(self, x: Tensor) -> Gaussian:
        """Map x (..., dim_in) to a Gaussian over (..., dim_out)."""
        shift, logvar = self.body(x).chunk(2, -1)
        return Gaussian(self.skip(x) + shift, logvar.clamp(*_LOGVAR))


class AnchorReasoner(nn.Module):
    """ADR: prior, posterior, and the likelihood of the clip's mean feature given z and the anchor.

    `fit` initializes the likelihood without gradient training: a linear map of the anchor predicts the clip's
    mean, with the residual variance of the training clips. z has to explain only the residual.

    Args:
        dim: Length U of an uplink feature.
        latent: Length L of z.
    """

    gain: Tensor
    level: Tensor
    temperature: Tensor

    def __init__(self, dim: int, latent: int = 64) -> None:
        super().__init__()
        self.prior = GaussianNet(dim, latent)
        self.posterior = GaussianNet(2 * dim, latent)
        self.likelihood = GaussianNet(latent, dim)
        nn.init.zeros_(self.likelihood.skip.weight)
        nn.init.zeros_(self.likelihood.skip.bias)
        self.register_buffer("gain", torch.zeros(dim))
        self.register_buffer("level", torch.zeros(dim))
        self.register_buffer("temperature", torch.zeros(()))

    def fit(self, anchors: Tensor, clips: Tensor) -> None:
        """Initialize the likelihood by least squares in every dimension.

        Args:
            anchors: (N, U) float32, anchors of training clips.
            clips: (N, U) float32, the mean features of these clips.
        """
        self.gain.copy_(least_squares(anchors, clips))
        self.level.copy_((clips - self.gain * anchors).square().mean(0).clamp(min=1e-6).log())

    def clip_given(self, z: Tensor, anchor: Tensor) -> Gaussian:
        """Compute the likelihood of the clip (..., U), given z (..., L) and the anchor (..., U)."""
        rest = self.likelihood(z)
        return Gaussian(self.gain * anchor + rest.mean, self.level + rest.logvar + self.temperature)

    def predict(self, anchor: Tensor, draws: int, seed: int = 0) -> Gaussian:
        """Predict the clip as an equal mixture: components (draws, ..., U), one for each draw of z."""
        prior, drawn = self.prior(anchor), torch.Generator().manual_seed(seed)
        noise = torch.randn(draws, *prior.mean.shape, generator=drawn)
        return self.clip_given(prior.mean + (prior.logvar / 2).exp() * noise, anchor)

    def calibrate(self, anchors: Tensor, clips: Tensor) -> None:
        """Set the temperature that maximizes the likelihood of validation clips.

        The temperature is added to the log variance of the likelihood.

        Args:
            anchors: (N, U) float32, anchors of validation clips.
            clips: (N, U) float32, the mean features of these clips.
        """
        self.temperature.zero_()
        with torch.no_grad():
            found = self.predict(anchors, CALIBRATION_DRAWS)
        steps = torch.linspace(-2, 2, 161)
        likely = [mixed_log_density(Gaussian(found.mean, found.logvar + t), clips).mean() for t in steps]
        self.temperature.copy_(steps[int(torch.stack(likely).argmax())])

    def evidence(self, anchor: Tensor, clip: Tensor) -> tuple[Gaussian, Gaussian, Tensor]:
        """Compute the posterior, the prior, and the clip's log likelihood (...) under a posterior draw of z.

        Args:
            anchor: (..., U) float32, the anchor frame's uplink feature.
            clip: (..., U) float32, the mean uplink feature of the whole clip.
        """
        q, p = self.posterior(torch.cat([anchor, clip], -1)), self.prior(anchor)
        return q, p, self.clip_given(q.sample(), anchor).log_prob(clip)


def least_squares(anchors: Tensor, clips: Tensor) -> Tensor:
    """Fit, in every dimension, the factor (U,) that best maps anchors (N, U) to their clips (N, U)."""
    return (anchors * clips).sum(0) / anchors.square().sum(0).clamp(min=1e-6)


def mixed_log_density(mixture: Gaussian, x: Tensor) -> Tensor:
    """Compute each entry's log density of x (..., U) under an equal mixture of (S, ..., U) -> (..., U)."""
    normed = (x - mixture.mean) ** 2 / mixture.logvar.exp()
    parts = -0.5 * (normed + mixture.logvar + math.log(2 * math.pi))
    return parts.logsumexp(0) - math.log(len(parts))


def mixed_cdf(mixture: Gaussian, x: Tensor) -> Tensor:
    """Compute the CDF of an equal mixture of (S, ..., U) at every entry of x (..., U) -> (..., U)."""
    below: Tensor = torch.special.ndtr((x - mixture.mean) / (mixture.logvar / 2).exp())
    return below.mean(0)


def pool(clips: Gaussian, mask: Tensor) -> tuple[Gaussian, Tensor]:
    """Pool the Gaussians of a support set, weighted by their precisions; the order does not matter.

    Args:
        clips: (..., K, L), one Gaussian for each clip.
        mask: (..., K) bool, True where there is a clip; at least one entry is True.

    Returns:
        The Gaussian of the device's mean (..., L), and the spread (..., L). The variance of the Gaussian
        falls with every clip. The spread is the standard deviation of the clips' means about the device's
        mean.
    """
    precision = (-clips.logvar).exp() * mask[..., None]
    total = precision.sum(-2)
    mean = (precision * clips.mean).sum(-2) / total
    variance = (precision * (clips.mean - mean[..., None, :]) ** 2).sum(-2) / total
    return Gaussian(mean, -total.log()), (variance + 1e-6).sqrt()
