"""AnchorFrame Distribution Reasoner: from one frame's feature to a distribution over its whole clip's.

CDC-MMPG (Ji et al., arXiv 2406.01601). A conditional variational model (Sohn et al., NeurIPS 2015): the prior
p(z | anchor) is what the cloud uses; the posterior q(z | anchor, whole clip) exists only in training and is
pulled towards the prior by KL(q || p).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_LOGVAR = (-6.0, 4.0)  # keeps exp(logvar) and its inverse well inside float32


@dataclass(frozen=True)
class Gaussian:
    """Diagonal Gaussian: mean and logvar (..., L); the standard deviation is exp(logvar / 2)."""

    mean: Tensor
    logvar: Tensor

    def sample(self) -> Tensor:
        """One reparameterised draw (..., L)."""
        return self.mean + (self.logvar / 2).exp() * torch.randn_like(self.mean)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of x (..., L), summed over L -> (...)."""
        normed = (x - self.mean) ** 2 / self.logvar.exp()
        return -0.5 * (normed + self.logvar + torch.log(torch.tensor(2 * torch.pi))).sum(-1)


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) >= 0, summed over L -> (...)."""
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
        """(..., dim_in) -> Gaussian over (..., dim_out)."""
        shift, logvar = self.body(x).chunk(2, -1)
        return Gaussian(self.skip(x) + shift, logvar.clamp(*_LOGVAR))


class AnchorReasoner(nn.Module):
    """ADR: prior, posterior, and the likelihood of the clip's mean feature given z.

    Args:
        dim: Length U of an uplink feature.
        latent: Length L of z.
    """

    def __init__(self, dim: int, latent: int = 64) -> None:
        super().__init__()
        self.prior = GaussianNet(dim, latent)
        self.posterior = GaussianNet(2 * dim, latent)
        self.likelihood = GaussianNet(latent, dim)

    def evidence(self, anchor: Tensor, clip: Tensor) -> tuple[Gaussian, Gaussian, Tensor]:
        """Posterior, prior, and the log likelihood (...) of the clip under a draw from the posterior.

        Args:
            anchor: (..., U) float32, the anchor frame's uplink feature.
            clip: (..., U) float32, the mean of all of the clip's.
        """
        q, p = self.posterior(torch.cat([anchor, clip], -1)), self.prior(anchor)
        return q, p, self.likelihood(q.sample()).log_prob(clip)


def pool(clips: Gaussian, mask: Tensor) -> tuple[Gaussian, Tensor]:
    """Pool a support set, order-free and precision-weighted.

    Args:
        clips: (..., K, L), one Gaussian a clip.
        mask: (..., K) bool, True where there is a clip; at least one is.

    Returns:
        The Gaussian of the device's mean (..., L), whose variance falls with every clip, and the spread
        (..., L): the standard deviation of the clips' means about it.
    """
    precision = (-clips.logvar).exp() * mask[..., None]
    total = precision.sum(-2)
    mean = (precision * clips.mean).sum(-2) / total
    variance = (precision * (clips.mean - mean[..., None, :]) ** 2).sum(-2) / total
    return Gaussian(mean, -total.log()), (variance + 1e-6).sqrt()
