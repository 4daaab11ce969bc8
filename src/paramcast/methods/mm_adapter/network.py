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
_ROUNDING = 1e-4
"""Unit vectors that differ by less count as equal."""


def attention_mask(classes: int, mask: Mask) -> Tensor:
    """Make the addend to the attention scores of a sequence of `classes` texts and, last, one image.

    Returns:
        (C + 1, C + 1) float32. `strict`: -inf within a modality, so that only cross-modal pairs attend. Every
        text then attends to the image alone, and all class texts are shifted by the same vector. `bias`: +1
        on cross-modal pairs. `none`: 0.
    """
    image: Tensor = torch.arange(classes + 1) == classes
    cross = image[:, None] != image[None, :]
    if mask == "strict":
        return torch.zeros(cross.shape).masked_fill(~cross, -torch.inf)
    return cross.float() * (1.0 if mask == "bias" else 0.0)


class AdapterNet(nn.Module):
    """Network that shifts embeddings; 107,712 parameters at 512 dimensions.

    Args:
        dim: Length D of an embedding.
        mask: See `attention_mask`.
        blend: Share of the shift in the output, in [0, 1].
    """

    def __init__(self, dim: int, mask: Mask = "strict", blend: float = 0.2) -> None:
        super().__init__()
        self.mask, self.blend = mask, blend
        self.down = nn.Sequential(nn.Linear(dim, BOTTLENECK), nn.Linear(BOTTLENECK, WIDTH))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.narrow, self.widen = nn.Linear(WIDTH, BOTTLENECK), nn.Linear(BOTTLENECK, dim)
        # The usual biases are as large as a layer's output for a unit vector, and add up through the layers.
        # The normalized shifts would then be almost equal for all inputs, at first and for many steps.
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def look_at(self, embeddings: Tensor) -> None:
        """Initialize the bottleneck with the directions in which embeddings differ most.

        With random directions, the common part of all embeddings hides the differences between few shots.
        Each principal direction is divided by the root of its deviation, and all are centered and scaled to a
        mean variance of 1. If there are fewer than 32 directions, the other rows do not change.

        Args:
            embeddings: (N, D) float32, L2-normalized, of images and texts.
        """
        centre = embeddings.mean(0)
        centred = embeddings - centre
        _, lengths, directions = torch.linalg.svd(centred, full_matrices=False)
        count = min(BOTTLENECK, int((lengths > _ROUNDING).sum()))
        if count:
            rows = directions[:count] / lengths[:count, None].sqrt()
            rows /= (centred @ rows.T).std()
            weight, bias = self.down[0].parameters()
            weight[:count], bias[:count] = rows, -rows @ centre

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Adapt embeddings.

        Args:
            images: (B, D) float32, L2-normalized.
            texts: (C, D) float32, L2-normalized, one for each class.

        Returns:
            Images (B, D), and the adapted texts of each image (B, C, D), L2-normalized.
        """
        shift = F.normalize(self.widen(self._inner(images, texts)), dim=-1)
        adapted = F.normalize(self.blend * shift + (1 - self.blend) * _sequences(texts, images), dim=-1)
        return adapted[:, -1], adapted[:, :-1]

    def cosines(self, images: Tensor, texts: Tensor) -> Tensor:
        """Compute the cosines in [-1, 1] of the adapted embeddings: (B, D), (C, D) -> (B, C).

        They equal the cosines of the output of `forward`, without its (B, C, D) numbers. The shift of a text
        is u = W g + b with g of 32 numbers, so that lengths and products of shifts are forms in g. A blend of
        unit vectors s and u / |u| has a length of sqrt(blend² + (1 - blend)² + 2 blend (1 - blend) <s, u> /
        |u|).
        """
        inner = self._inner(images, texts)
        weight, bias = self.widen.weight, self.widen.bias
        shift = F.normalize(self.widen(inner[:, -1]), dim=-1)
        adapted = F.normalize(self.blend * shift + (1 - self.blend) * images, dim=-1)
        g = inner[:, :-1]
        squared = ((g @ (weight.T @ weight)) * g).sum(-1) + 2 * g @ (weight.T @ bias) + bias @ bias
        length = squared.clamp_min(1e-12).sqrt()
        to_text = (torch.einsum("bck,ck->bc", g, texts @ weight) + texts @ bias) / length
        to_image = (torch.einsum("bck,bk->bc", g, adapted @ weight) + (adapted @ bias)[:, None]) / length
        own = 1 - self.blend
        blended = (self.blend**2 + own**2 + 2 * self.blend * own * to_text).clamp_min(1e-12).sqrt()
        return (self.blend * to_image + own * adapted @ texts.T) / blended

    def _inner(self, images: Tensor, texts: Tensor) -> Tensor:
        """Compute the 32 inputs of the last layer for each shift, (B, C + 1, 32)."""
        attention = self.attention
        # The texts are projected once, not for every image.
        parts = [
            F.linear(self.down(rows), attention.in_proj_weight, attention.in_proj_bias)
            for rows in (texts, images)
        ]
        sequences = _sequences(*parts)
        query, key, value = sequences.view(*sequences.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mask = attention_mask(len(texts), self.mask).to(sequences)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
        # Without an activation between the attention's output layer and the next layer, they are one matrix.
        out, narrow = attention.out_proj, self.narrow
        both = F.linear(mixed, narrow.weight @ out.weight, narrow.weight @ out.bias + narrow.bias)
        return F.gelu(both)


def _sequences(texts: Tensor, images: Tensor) -> Tensor:
    """Join for each image all texts and, last, the image: (C, D) and (B, D) -> (B, C + 1, D)."""
    return torch.cat([texts.expand(len(images), *texts.shape), images[:, None]], dim=1)
