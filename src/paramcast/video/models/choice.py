"""Multiple choice: find the option that fits the clip and the question."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paramcast.video.models.answer import Fusion


class ChoiceModel(nn.Module):
    """Score each option: the features of question and option are concatenated and fused with the clip."""

    targets = ("fusion.image.bias", "fusion.joint.bias", "score")

    def __init__(self, image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.fusion = Fusion(image_dim, 2 * text_dim)
        self.score = nn.Linear(self.fusion.width, 1)

    def forward(self, frames: Tensor, mask: Tensor, questions: Tensor, options: Tensor) -> Tensor:
        """Compute logits (..., N, O) of N questions (..., N, text_dim) and options (..., N, O, text_dim)."""
        count = options.shape[-2]
        pairs = torch.cat([questions[..., None, :].expand(options.shape), options], -1)
        fused = self.fusion(frames, mask, pairs.flatten(-3, -2))
        scores: Tensor = self.score(fused)[..., 0]
        return scores.reshape(*scores.shape[:-1], -1, count)
