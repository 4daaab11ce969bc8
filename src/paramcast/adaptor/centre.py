"""Where the adaptor starts from: the support set's own mean, trusted as far as it stands out.

The mean of a few clips lies off the training set's by chance alone, and a device of one category's does so
without being in need of adaptation. A gate learns how far off is far enough, as an estimator that shrinks
(James and Stein, 1961) knows from theory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paramcast.adaptor.context import ContextInputs

_PACE = 10.0
"""So much faster than a network's weights do these few numbers learn."""


class CentreStart(nn.Module):
    """The coefficients of `models.edits.centre.Centre`: how much of which direction to take away.

    The first `dims` directions are the leading ones of the uplink's image features, the next `dims` those of
    its text features.

    Args:
        dims: Directions of each.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims
        # What the gates open to (nothing at the start), their slopes and offsets. Uplink features have unit
        # variance, so a mean of n has 1 / n by chance: a gate is half open at e^(2/4) = 1.6 times that.
        self.gates = nn.Parameter(torch.tensor([[0.0, 4.0, -2.0]]).repeat(2, 1) / _PACE)

    def forward(self, inputs: ContextInputs) -> Tensor:
        """Coefficients (B, 2 dims) for B devices."""
        sets = ((inputs.anchors, inputs.anchor_mask), (inputs.queries, inputs.query_mask))
        return torch.cat([self._shrunk(place, *known) for place, known in enumerate(sets)], -1)

    def _shrunk(self, place: int, features: Tensor, mask: Tensor) -> Tensor:
        leading = features[..., : self.dims] * mask[..., None]
        count = mask.sum(-1, keepdim=True).clamp(min=1)
        mean = leading.sum(-2) / count
        excess = (mean.square().mean(-1, keepdim=True) * count + 1e-4).log()
        most, slope, offset = self.gates[place] * _PACE
        shrunk: Tensor = most * (slope * excess + offset).sigmoid() * mean
        return shrunk
