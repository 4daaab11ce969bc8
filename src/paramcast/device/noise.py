"""Optional noise on the numbers that a device sends: it discloses less, and adaptation gains less."""

from __future__ import annotations

import numpy as np

from paramcast.device.errors import DeviceInputError
from paramcast.protocol.quantize import Float32


class UplinkNoise:
    """Gaussian noise for uplink features.

    The noise is added once to each example, when the example is observed, and kept. So the average over
    several requests does not remove it. docs/threat_model.md reports how much it hides and costs.
    """

    def __init__(self, scale: float = 0.0, seed: int | None = None) -> None:
        """Prepare the noise.

        Args:
            scale: Standard deviation of the noise; 0 for none. The entries of the uplink features have the
                standard deviation 1 over the training set.
            seed: Seed for tests and benchmarks; None draws from the entropy of the system, as devices do.

        Raises:
            DeviceInputError: The scale is negative or not finite.
        """
        if not 0 <= scale < float("inf"):
            raise DeviceInputError(f"the scale of the uplink's noise must be 0 or more, not {scale}")
        self._scale, self._random = scale, np.random.default_rng(seed)

    def __call__(self, rows: Float32) -> Float32:
        """Add noise to uplink rows (..., U) float32."""
        if not self._scale:
            return rows
        return (rows + self._random.normal(0, self._scale, rows.shape)).astype(np.float32)
