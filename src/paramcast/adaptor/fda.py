"""Fast Domain Adaptor: a hypernetwork from a context to the parameters of the dynamic layers.

CDC-MMPG (Ji et al., arXiv 2406.01601); hypernetworks: Ha et al., arXiv 1609.09106.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paramcast.adaptor.generators import GENERATORS
from paramcast.models.dynamic import Dynamic


class FastDomainAdaptor(nn.Module):
    """Context (B, C) -> package tensors (B, *shape).

    The context reaches the generator both through a network and as it is (layer-normalised, linear), so that
    first-order corrections, such as taking away a device's mean feature, need not be learned by the network.
    """

    def __init__(self, context_dim: int, dynamic: Dynamic, hidden: int = 128, dropout: float = 0.3) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(context_dim, affine=False, momentum=0.05)
        self.body = nn.Sequential(
            nn.Linear(context_dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
        )
        # On the context itself: few devices are easily told apart by it, and then memorised.
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Linear(context_dim, hidden)
        self.generator = GENERATORS[dynamic.edit.form](2 * hidden, dynamic)

    def forward(self, context: Tensor, dynamic: Dynamic) -> dict[str, Tensor]:
        """Generate parameters for B devices at once."""
        normed = self.dropout(self.norm(context).clamp(-5, 5))
        h = torch.cat([self.body(normed), self.skip(normed)], -1)
        values: dict[str, Tensor] = self.generator(h, dynamic)
        return values
