"""Asking when the data have moved away from those that the present package was made for.

The idea, to ask for parameters only when the device's data are out of the distribution that its parameters
were made for, is IntellectReq's (Lv et al., WWW 2024, "Intelligent Model Update Strategy for Sequential
Recommendation"); the score here is a plain distance of means.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paramcast.device.errors import DeviceInputError
from paramcast.device.policy.base import SUPPORT, History
from paramcast.device.support import Seen
from paramcast.wire.quantise import Float32

DIMS = 32
"""Leading entries of uplink features that the score looks at: those behind them are mostly noise."""


def drift_score(recent: Sequence[Seen], made_for: Sequence[Seen], dims: int = DIMS) -> float:
    """How far the mean of recent clips is from that of the clips that a package was made for.

    The squared distance of two means of independent samples of n and m, each entry of unit variance, is
    1/n + 1/m an entry on average; the score is the distance divided by that. Uplink features have unit
    variance over the training set, so the score is about 1 where recent clips are drawn from the same
    domain (less, where that is narrower than the training set), and grows with n where they are not.

    Args:
        recent: The last clips, at least one.
        made_for: Those that the package was made for, at least one.
        dims: Leading entries to look at.

    Returns:
        The larger of the anchors' score and the queries'; in 0..inf.
    """
    anchors = _score(_anchors(recent), _anchors(made_for), dims)
    return max(anchors, _score(_queries(recent), _queries(made_for), dims))


def _anchors(clips: Sequence[Seen]) -> Float32:
    return np.stack([clip.anchor for clip in clips])


def _queries(clips: Sequence[Seen]) -> Float32:
    return np.concatenate([clip.queries for clip in clips])


def _score(recent: Float32, made_for: Float32, dims: int) -> float:
    """Of rows (n, U) and (m, U); 0 where one has none."""
    if not (len(recent) and len(made_for)):
        return 0.0
    moved = recent[:, :dims].mean(axis=0) - made_for[:, :dims].mean(axis=0)
    return float(moved @ moved / moved.size / (1 / len(recent) + 1 / len(made_for)))


class OnDrift:
    """Asks at the first clips of a domain, again as it has seen more of it, and when the domain changes.

    A package gets sharper with every clip that it is made for, and ever less so: it asks when the clips seen
    of the domain have doubled, up to `support`. When the drift score of the last `window` clips rises above
    `high`, a new domain has begun with them; the score has to fall below `low` before the next alarm.
    """

    def __init__(
        self,
        high: float = 2.0,
        low: float = 1.5,
        window: int = 4,
        first: int = 1,
        support: int = SUPPORT,
        dims: int = DIMS,
    ) -> None:
        """Prepare.

        Args:
            high: The drift score that raises the alarm.
            low: The one below which it is armed again, in 0..high.
            window: Clips that the score is taken over, at least 1.
            first: Clips of the first domain to begin with, at least 1.
            support: Clips to ask with at most.
            dims: See `drift_score`.

        Raises:
            DeviceInputError: An argument is out of its range.
        """
        if not 0 <= low <= high:
            raise DeviceInputError(f"0 <= low <= high must hold, not low {low} and high {high}")
        if min(window, first, support, dims) < 1:
            raise DeviceInputError("window, first, support and dims must be at least 1")
        self._high, self._low, self._window, self._dims = high, low, window, dims
        self._first, self._support = first, support
        self._begun = 0  # clips observed before the present domain began
        self._alarmed = False
        self.score: float | None = None

    def wants(self, history: History) -> int:
        """See the class; `score` is what was found."""
        if self._has_drifted(history):
            self._begun = history.observed - self._window
        seen = min(history.observed - self._begun, self._support, len(history.recent))
        known = max(0, history.observed - history.since - self._begun)  # clips of this domain asked with
        wanted = max(self._first, 2 * min(known, self._support))
        return seen if seen >= wanted else 0

    def _has_drifted(self, history: History) -> bool:
        """Whether the score has just risen above `high`."""
        if history.since < self._window or not history.made_for:
            return False
        recent = history.recent[-self._window :]
        self.score = drift_score(recent, history.made_for, self._dims)
        if self._alarmed and self.score < self._low:
            self._alarmed = False
        elif not self._alarmed and self.score > self._high:
            self._alarmed = True
            return True
        return False
