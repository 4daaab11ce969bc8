"""Mean of the support set's text features, shrunk by a learned gate; it is subtracted before adaptation.

The mean of a few clips differs from the mean of the training set by chance alone. The mean of a device with a
single category differs too, although this device needs no adaptation. A gate learns how large a difference
has to be. It plays the role of a shrinkage estimator (James and Stein, 1961), which has this limit from
theory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paramcast.hypernet.context import ContextInputs

_PACE = 10.0
"""Factor by which the gate's three parameters learn faster than the weights of a network."""


class CentreStart(nn.Module):
    """Coefficients of `adapters.centre.CentreAdapter`: how much of each direction to subtract.

    The directions are the leading directions of the uplink's text features. Subtracting a mean from images
    would add nearly the same number to every candidate's score (it differs only by the length of the
    embedding), so ranks would hardly change. Subtracting a mean from texts lowers the scores of candidates
    that are near to every query.

    Args:
        dims: Number of directions.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims
        # The gate's largest value (zero at the start), its slope and its offset. Uplink features have unit
        # variance, so a mean of n features has the variance 1 / n by chance. The mean of a single category
        # has two or three times this variance, and needs no centre. So the gate is half open at e^(11/8) = 4
        # times the variance, and steep.
        self.gate = nn.Parameter(torch.tensor([0.0, 8.0, -11.0]) / _PACE)

    def forward(self, inputs: ContextInputs) -> Tensor:
        """Compute the coefficients (B, dims) of B devices."""
        mask = inputs.query_mask
        leading = inputs.queries[..., : self.dims] * mask[..., None]
        count = mask.sum(-1, keepdim=True).clamp(min=1)
        mean = leading.sum(-2) / count
        excess = (mean.square().mean(-1, keepdim=True) * count + 1e-4).log()
        most, slope, offset = self.gate * _PACE
        shrunk: Tensor = most * (slope * excess + offset).sigmoid() * mean
        return shrunk
