"""Text-video retrieval: a projection head on each frozen trunk, into one space."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.models.parts import FeatureNorm, masked_mean


class RetrievalModel(nn.Module):
    """Clips and texts -> unit vectors whose cosine says how well they fit.

    Args:
        image_dim, text_dim: Lengths of the trunks' features.
        width: Length E of an embedding.
        dropout: Share of inputs dropped in training. Linear heads with half of their inputs dropped beat
            deeper ones on frozen features (docs/log.md).
    """

    # Edits of the weights learn the training clips by heart, and lost 6 points (docs/log.md).
    targets = ("image.bias", "text.bias")
    temperature = 12.0
    """Scale of the cosines in InfoNCE."""

    def __init__(self, image_dim: int, text_dim: int, width: int = 256, dropout: float = 0.5) -> None:
        super().__init__()
        self.image_norm, self.text_norm = FeatureNorm(image_dim), FeatureNorm(text_dim)
        self.image = nn.Linear(image_dim, width)
        self.text = nn.Linear(text_dim, width)
        self.dropout = nn.Dropout(dropout)

    def embed_clips(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Frames (..., T, image_dim), mask (..., T) bool -> (..., E) float32, L2-normalised."""
        pooled = self.image_norm(masked_mean(frames, mask))  # either order is the same; this one is cheaper
        return F.normalize(self.image(self.dropout(pooled)), dim=-1)

    def embed_texts(self, texts: Tensor) -> Tensor:
        """Texts (..., text_dim) -> (..., E) float32, L2-normalised."""
        return F.normalize(self.text(self.dropout(self.text_norm(texts))), dim=-1)

    def forward(self, frames: Tensor, mask: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of clips and of texts."""
        return self.embed_clips(frames, mask), self.embed_texts(texts)
