"""Fast Domain Adaptor: turns a context into the tensors of an update.

CDC-MMPG (Ji et al., arXiv 2406.01601); hypernetworks: Ha et al., arXiv 1609.09106.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paramcast.adapters import Adapter
from paramcast.adapters.base import HIDDEN
from paramcast.hypernet.generators import make_generator


class FastDomainAdaptor(nn.Module):
    """Context (B, C) -> hidden vector (B, hidden) -> update tensors (B, *shape).

    The normalized context reaches the generator through a network and through a linear layer. So the network
    need not learn first-order corrections, such as the subtraction of a device's mean feature.
    """

    def __init__(
        self, context_dim: int, adapter: Adapter, hidden: int = HIDDEN // 2, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(context_dim, affine=False, momentum=0.05)
        self.body = nn.Sequential(
            nn.Linear(context_dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
        )
        # Dropout is applied to the context itself. Otherwise the network would recognize and memorize the
        # devices if they are few.
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Linear(context_dim, hidden)
        self.hidden = 2 * hidden
        self.generator = make_generator(self.hidden, adapter)

    def encode(self, context: Tensor) -> Tensor:
        """Encode contexts (B, C) as the input (B, hidden) of the generator."""
        normed = self.dropout(self.norm(context).clamp(-5, 5))
        return torch.cat([self.body(normed), self.skip(normed)], -1)

    def forward(self, encoded: Tensor) -> dict[str, Tensor]:
        """Generate parameters for B devices at once, from the output (B, hidden) of `encode`."""
        values: dict[str, Tensor] = self.generator(encoded)
        return values
