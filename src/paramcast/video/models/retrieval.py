"""Text-video retrieval: a projection head on each frozen encoder, and the space that the encoders share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.video.models.parts import FeatureNorm, masked_mean


class RetrievalModel(nn.Module):
    """Embed clips and texts as unit vectors; their cosine measures how well they fit.

    Args:
        image_dim, text_dim: Lengths of the encoders' features.
        width: Length L of the output of a head.
        shared_dim: Number S of the last dimensions of an image's feature, and of the first dimensions of a
            text's feature, that are in one space. If it is not 0, the cosine of two embeddings is the mean
            of two cosines: the learned one of the heads' outputs, and one of these shared dimensions
            without the training set's mean. The length E of an embedding is L + S.
        dropout: Share of inputs dropped in training. Linear heads with half of their inputs dropped are
            better than deeper heads on frozen features (docs/log.md).
    """

    # Changes of the weights memorize the training clips, and lost 6 points (docs/log.md).
    targets = ("image*.bias", "text*.bias")
    temperature = 12.0
    """Scale of the cosines in InfoNCE."""

    def __init__(
        self, image_dim: int, text_dim: int, shared_dim: int = 0, width: int = 256, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.image_norm, self.text_norm = FeatureNorm(image_dim), FeatureNorm(text_dim)
        self.image = nn.Linear(image_dim, width)
        self.text = nn.Linear(text_dim, width)
        self.dropout = nn.Dropout(dropout)
        self.shared_dim = shared_dim
        if shared_dim:
            self.image_shared, self.text_shared = _identity(shared_dim), _identity(shared_dim)

    def embed_clips(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Embed frames (..., T, image_dim) with mask (..., T) bool: (..., E) float32, L2-normalized."""
        pooled = masked_mean(frames, mask)  # before or after the norm gives the same; before is cheaper
        learned: Tensor = F.normalize(self.image(self.dropout(self.image_norm(pooled))), dim=-1)
        if not self.shared_dim:
            return learned
        centred = (pooled - self.image_norm.mean)[..., -self.shared_dim :]
        return _side_by_side(learned, self.image_shared(centred))

    def embed_texts(self, texts: Tensor) -> Tensor:
        """Embed texts (..., text_dim): (..., E) float32, L2-normalized."""
        learned: Tensor = F.normalize(self.text(self.dropout(self.text_norm(texts))), dim=-1)
        if not self.shared_dim:
            return learned
        centred = (texts - self.text_norm.mean)[..., : self.shared_dim]
        return _side_by_side(learned, self.text_shared(centred))

    def forward(self, frames: Tensor, mask: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the embeddings of clips and of texts."""
        return self.embed_clips(frames, mask), self.embed_texts(texts)


def _identity(dim: int) -> nn.Linear:
    """Make an identity layer that is never trained; only updates change it."""
    layer = nn.Linear(dim, dim)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer.requires_grad_(False)


def _side_by_side(learned: Tensor, shared: Tensor) -> Tensor:
    """Join a unit vector (..., L) and a vector (..., S) of any norm: (..., L + S); cosines are averaged."""
    both: Tensor = torch.cat([learned, F.normalize(shared, dim=-1)], -1) * 0.5**0.5
    return both
