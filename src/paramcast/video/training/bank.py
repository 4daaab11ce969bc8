"""Features in memory: every clip with every camera set that is used, and every text, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from paramcast.video.data.features import FeatureStore
from paramcast.video.shifts.cameras import Camera

ClipKey = tuple[str, tuple[Camera, ...], int | None]
"""Clip id, cameras, and the number of a single frame (None: all frames)."""


@dataclass(frozen=True)
class Bank:
    """Rows of features of clips and texts.

    Attributes:
        frames: (R, T, Di) float32, zero where there is no frame.
        mask: (R, T) bool, True where there is a frame.
        clip_rows: Clip key -> its row.
        texts: (S, Dt) float32.
        text_rows: Text -> its row.
    """

    frames: Tensor
    mask: Tensor
    clip_rows: dict[ClipKey, int]
    texts: Tensor
    text_rows: dict[str, int]

    @classmethod
    def build(cls, store: FeatureStore, clips: Iterable[ClipKey], texts: Iterable[str]) -> Bank:
        """Build a bank; features that are not cached yet are encoded."""
        keys = list(dict.fromkeys(clips))
        whole = list(dict.fromkeys((clip, cameras) for clip, cameras, _ in keys))
        features = dict(zip(whole, store.clips(whole), strict=True))
        rows = [_pick(features[clip, cameras], frame) for clip, cameras, frame in keys]
        longest = max((len(row) for row in rows), default=1)
        frames = torch.zeros(len(rows), longest, store.image.dim)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for place, row in enumerate(rows):
            frames[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = True
        words = list(dict.fromkeys(texts))
        return cls(
            frames,
            mask,
            {key: place for place, key in enumerate(keys)},
            torch.tensor(store.texts(words)),
            {text: place for place, text in enumerate(words)},
        )

    def anchors(self, count: int = 1) -> np.ndarray:
        """Return the features of each row's anchor frames, evenly spread: (R, count, Di) float32."""
        odd = 2 * torch.arange(count) + 1
        places = self.mask.sum(1, keepdim=True) * odd // (2 * count)
        return self.frames[torch.arange(len(self.frames))[:, None], places].numpy()

    def means(self) -> np.ndarray:
        """Compute the mean over each row's frames: (R, Di) float32."""
        counts = self.mask.sum(1, keepdim=True)
        mean: np.ndarray = (self.frames.sum(1) / counts).numpy()
        return mean

    def some_frames(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw four random frames of each row: training is cheaper than on all frames, and memorizes less.

        Args:
            rows: (...) int.
            rng: Draws the frames, with replacement, so that rows with fewer frames work as well.

        Returns:
            (..., 4, Di) float32 and a mask (..., 4) bool, all True.
        """
        index = torch.from_numpy(rows)
        counts = self.mask[index].sum(-1, keepdim=True).numpy()
        drawn = torch.from_numpy((rng.random((*rows.shape, 4)) * counts).astype(np.int64))
        return self.frames[index[..., None], drawn], torch.ones_like(drawn, dtype=torch.bool)

    def some_texts(self, rows: np.ndarray) -> Tensor:
        """Return the texts of rows (...) int: (..., Dt) float32."""
        return self.texts[torch.from_numpy(rows)]

    def all_frames(self, rows: Sequence[int]) -> Tensor:
        """Return every frame of these rows: (N, Di) float32."""
        index = torch.tensor(rows)
        return self.frames[index][self.mask[index]]


@dataclass(frozen=True)
class OffsetBank(Bank):
    """A bank for B devices: an offset for each device is added to all features.

    The first axis of row indices is the device axis.

    Attributes:
        frame_offsets: (B, Di) float32.
        text_offsets: (B, Dt) float32.
    """

    frame_offsets: Tensor
    text_offsets: Tensor

    def some_frames(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw frames of rows (B, ...) and add the offsets; see `Bank.some_frames`."""
        frames, mask = super().some_frames(rows, rng)
        return frames + _spread(self.frame_offsets, frames.dim()), mask

    def some_texts(self, rows: np.ndarray) -> Tensor:
        """Return the texts of rows (B, ...), with the offsets added."""
        texts = super().some_texts(rows)
        return texts + _spread(self.text_offsets, texts.dim())


def _spread(offsets: Tensor, dims: int) -> Tensor:
    """Reshape (B, D) to (B, 1, ..., D) with `dims` axes."""
    return offsets.reshape(len(offsets), *[1] * (dims - 2), -1)


def _pick(features: np.ndarray, frame: int | None) -> np.ndarray:
    return features if frame is None else features[frame : frame + 1]
