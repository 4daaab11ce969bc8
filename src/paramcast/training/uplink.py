"""The uplink: the projection of features to the few numbers that a device sends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paramcast.protocol.quantize import from_int8, to_int8

IMAGE_DIM, TEXT_DIM = 128, 128


@dataclass(frozen=True)
class Uplink:
    """A whitening PCA: (feature - mean) @ matrix; each entry has variance 1 on the training set.

    It is fitted without labels and frozen before any training, so it holds no information about training
    labels.

    Attributes:
        mean: (D,) float32.
        matrix: (D, U) float32.
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, dim: int, *, standardize: bool = False) -> Uplink:
        """Fit the projection; entries beyond the rank of the features are zero.

        Args:
            features: (N, D) float32 of training examples.
            dim: Number U of entries to send.
            standardize: Whether to scale every feature to variance 1 first, so that units do not matter.
        """
        if standardize:
            scale = np.maximum(features.std(0), 1e-6 * (1 + np.abs(features).max(0)))
            plain = cls.fit(features / scale, dim)
            return cls(
                (plain.mean * scale).astype(np.float32), (plain.matrix / scale[:, None]).astype(np.float32)
            )
        mean = features.mean(0)
        covariance = np.cov(features - mean, rowvar=False).astype(np.float64)
        variances, vectors = np.linalg.eigh(np.atleast_2d(covariance))
        order = np.argsort(variances)[::-1][:dim]
        kept = variances[order] > variances.max() * 1e-6
        scales = np.where(kept, 1 / np.sqrt(np.maximum(variances[order], 1e-12)), 0)
        matrix = np.zeros((features.shape[1], dim), np.float32)
        matrix[:, : len(order)] = vectors[:, order] * scales
        return cls(mean.astype(np.float32), matrix)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Project features (N, D) to (N, U) float32."""
        projected: np.ndarray = (features - self.mean) @ self.matrix
        return projected.astype(np.float32)

    @cached_property
    def directions(self) -> np.ndarray:
        """(U, D) float32: the change of the features for a change of 1 in each entry of the uplink."""
        inverse: np.ndarray = np.linalg.pinv(self.matrix)
        return inverse


def as_received(uplinks: np.ndarray) -> np.ndarray:
    """Quantize uplink features (N, U) as requests do, to int8 with a scale per row, and convert them back."""
    return from_int8(*to_int8(uplinks))
