"""Answer a question about a clip: attention of the question over the frames, fusion and an answer head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.video.models.parts import FeatureNorm


class Fusion(nn.Module):
    """Fuse frames and a text into one joint vector.

    Args:
        image_dim, text_dim: Lengths of the encoders' features.
        width: Width of the hidden layers.
        dropout: Share of inputs dropped in training; without it, the model memorizes the frozen features.
    """

    def __init__(self, image_dim: int, text_dim: int, width: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.image_norm, self.text_norm = FeatureNorm(image_dim), FeatureNorm(text_dim)
        self.image = nn.Linear(image_dim, width)
        self.image_out = nn.LayerNorm(width)
        self.text = nn.Linear(text_dim, width)
        self.text_out = nn.LayerNorm(width)
        self.attend = nn.Linear(width, width)
        self.joint = nn.Linear(3 * width, 2 * width)
        self.joint_out = nn.LayerNorm(2 * width)
        self.dropout = nn.Dropout(dropout)
        self.width = 2 * width

    def forward(self, frames: Tensor, mask: Tensor, texts: Tensor) -> Tensor:
        """Fuse each text with its clip.

        Args:
            frames: (..., T, image_dim) float32.
            mask: (..., T) bool, True where there is a frame.
            texts: (..., N, text_dim) float32: N texts of each clip.

        Returns:
            (..., N, 2 * width) float32.
        """
        v = F.gelu(self.image_out(self.image(self.dropout(self.image_norm(frames)))))
        q = F.gelu(self.text_out(self.text(self.dropout(self.text_norm(texts)))))
        scores = self.attend(q) @ v.transpose(-1, -2) / v.shape[-1] ** 0.5  # (..., N, T)
        weights = scores.masked_fill(~mask[..., None, :], -1e9).softmax(-1)
        seen = weights @ v
        joined = torch.cat([self.dropout(seen), self.dropout(q), seen * q], -1)
        fused: Tensor = self.dropout(F.gelu(self.joint_out(self.joint(joined))))
        return fused


class AnswerModel(nn.Module):
    """Video question answering as classification over a fixed list of answers."""

    # Base models that were trained without different folds differ in the spaces of their hidden layers, but
    # not in the space of the answers. In hidden layers, only shifts transfer between them (docs/log.md).
    targets = ("fusion.image.bias", "fusion.joint.bias", "head")

    def __init__(self, image_dim: int, text_dim: int, answers: int) -> None:
        super().__init__()
        self.fusion = Fusion(image_dim, text_dim)
        self.head = nn.Linear(self.fusion.width, answers)

    def forward(self, frames: Tensor, mask: Tensor, questions: Tensor) -> Tensor:
        """Compute logits (..., N, answers) of questions (..., N, text_dim); see `Fusion.forward`."""
        logits: Tensor = self.head(self.fusion(frames, mask, questions))
        return logits
