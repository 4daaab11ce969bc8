"""The adapter: class texts and one image attend to each other, and each is shifted a little.

Seputis, Mihailov, Chatterjee, Xiao, "Multi-Modal Adapter for Vision-Language Models", arXiv 2409.02958.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Mask = Literal["strict", "bias", "none"]
MASKS: tuple[Mask, ...] = ("strict", "bias", "none")

BOTTLENECK = 32
WIDTH = 128
HEADS = 4


def attention_mask(classes: int, mask: Mask) -> Tensor:
    """What is added to the attention scores of a sequence of `classes` texts and, last, one image.

    Returns:
        (C + 1, C + 1) float32. `strict`: -inf within a modality, so that only cross-modal pairs attend; then
        every text attends to the image alone, and all class texts are shifted by the same vector. `bias`: +1
        on cross-modal pairs. `none`: 0.
    """
    image: Tensor = torch.arange(classes + 1) == classes
    cross = image[:, None] != image[None, :]
    if mask == "strict":
        return torch.zeros(cross.shape).masked_fill(~cross, -torch.inf)
    return cross.float() * (1.0 if mask == "bias" else 0.0)


class AdapterNet(nn.Module):
    """Embeddings in, embeddings out; 107,712 parameters at 512 dimensions.

    Args:
        dim: Length D of an embedding.
        mask: See `attention_mask`.
        blend: Share of the shift in what comes out, in [0, 1].
    """

    def __init__(self, dim: int, mask: Mask = "bias", blend: float = 0.2) -> None:
        super().__init__()
        self.mask, self.blend = mask, blend
        self.down = nn.Sequential(nn.Linear(dim, BOTTLENECK), nn.Linear(BOTTLENECK, WIDTH))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.up = nn.Sequential(nn.Linear(WIDTH, BOTTLENECK), nn.GELU(), nn.Linear(BOTTLENECK, dim))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Adapt.

        Args:
            images: (B, D) float32, L2-normalised.
            texts: (C, D) float32, L2-normalised, one a class.

        Returns:
            Images (B, D), and for each image its own texts (B, C, D), L2-normalised.
        """
        sequence = torch.cat([texts.expand(len(images), *texts.shape), images[:, None]], dim=1)
        hidden = self.down(sequence)
        mask = attention_mask(len(texts), self.mask).to(hidden)
        mixed, _ = self.attention(hidden, hidden, hidden, attn_mask=mask, need_weights=False)
        shift = F.normalize(self.up(mixed), dim=-1)
        adapted = F.normalize(self.blend * shift + (1 - self.blend) * sequence, dim=-1)
        return adapted[:, -1], adapted[:, :-1]

    def cosines(self, images: Tensor, texts: Tensor) -> Tensor:
        """(B, D), (C, D) -> (B, C) cosines in [-1, 1] of the adapted embeddings."""
        adapted, classes = self(images, texts)
        return torch.einsum("bd,bcd->bc", adapted, classes)
