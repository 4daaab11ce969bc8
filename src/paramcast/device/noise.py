"""Noise on what a device sends, for whoever wants it: less is told by it, and adaptation gains less."""

from __future__ import annotations

import numpy as np

from paramcast.device.errors import DeviceInputError
from paramcast.protocol.quantize import Float32


class UplinkNoise:
    """Adds Gaussian noise to uplink features.

    Added once to each clip, when it is observed, and kept: a clip that is sent twice does not average out.
    What it hides and what it costs is measured in docs/threat_model.md.
    """

    def __init__(self, scale: float = 0.0, seed: int | None = None) -> None:
        """Noise of standard deviation `scale`; an uplink feature's entries have 1 over the training clips.

        Args:
            scale: 0 for none.
            seed: For tests and benchmarks; a device draws from its system's entropy.

        Raises:
            DeviceInputError: If the scale is negative or not finite.
        """
        if not 0 <= scale < float("inf"):
            raise DeviceInputError(f"the scale of the uplink's noise must be 0 or more, not {scale}")
        self._scale, self._random = scale, np.random.default_rng(seed)

    def __call__(self, rows: Float32) -> Float32:
        """Uplink rows (..., U) float32 -> the same, noisy."""
        if not self._scale:
            return rows
        return (rows + self._random.normal(0, self._scale, rows.shape)).astype(np.float32)
