"""Where the adaptor starts from: the mean of the support set's texts, trusted as far as it stands out.

The mean of a few clips lies off the training set's by chance alone, and a device of one category's does so
without being in need of adaptation. A gate learns how far off is far enough, as an estimator that shrinks
(James and Stein, 1961) knows from theory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paramcast.hypernet.context import ContextInputs

_PACE = 10.0
"""So much faster than a network's weights do these few numbers learn."""


class CentreStart(nn.Module):
    """The coefficients of `models.edits.centre.Centre`: how much of which direction to take away.

    The directions are the leading ones of the uplink's text features. Taking a mean away from images instead
    adds the same to every candidate's score, but for the length of its embedding, and so hardly moves a rank;
    taken away from texts it lowers those candidates that are near to whatever is asked.

    Args:
        dims: Directions.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims
        # What it opens to (nothing at the start), its slope and offset. Uplink features have unit variance,
        # so a mean of n has 1 / n by chance, and one category's has two or three times that without being in
        # need of a centre: the gate is half open at e^(11/8) = 4 times, and steep.
        self.gate = nn.Parameter(torch.tensor([0.0, 8.0, -11.0]) / _PACE)

    def forward(self, inputs: ContextInputs) -> Tensor:
        """Coefficients (B, dims) for B devices."""
        mask = inputs.query_mask
        leading = inputs.queries[..., : self.dims] * mask[..., None]
        count = mask.sum(-1, keepdim=True).clamp(min=1)
        mean = leading.sum(-2) / count
        excess = (mean.square().mean(-1, keepdim=True) * count + 1e-4).log()
        most, slope, offset = self.gate * _PACE
        shrunk: Tensor = most * (slope * excess + offset).sigmoid() * mean
        return shrunk
