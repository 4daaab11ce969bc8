"""Fast Domain Adaptor: a hypernetwork from a context to the parameters of the dynamic layers.

CDC-MMPG (Ji et al., arXiv 2406.01601); hypernetworks: Ha et al., arXiv 1609.09106.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paramcast.adapters.dynamic import Dynamic
from paramcast.hypernet.generators import GENERATORS


class FastDomainAdaptor(nn.Module):
    """Context (B, C) -> hidden vector (B, hidden) -> package tensors (B, *shape).

    The context reaches the generator both through a network and as it is (layer-normalized, linear), so that
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
        # On the context itself: few devices are easily told apart by it, and then memorized.
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Linear(context_dim, hidden)
        self.hidden = 2 * hidden
        self.generator = GENERATORS[dynamic.edit.form](self.hidden, dynamic)

    def encode(self, context: Tensor) -> Tensor:
        """What the generator is given: (B, C) -> (B, hidden)."""
        normed = self.dropout(self.norm(context).clamp(-5, 5))
        return torch.cat([self.body(normed), self.skip(normed)], -1)

    def forward(self, encoded: Tensor, dynamic: Dynamic) -> dict[str, Tensor]:
        """Generate parameters for B devices at once, of what `encode` gave."""
        values: dict[str, Tensor] = self.generator(encoded, dynamic)
        return values
