"""Asking when the data have moved away from those that the present package was made for.

To ask for parameters only when the device's data have left the distribution that its parameters were made
for is IntellectReq's idea (Lv et al., "Intelligent Model Update Strategy for Sequential Recommendation",
WWW 2024). Here the distance is one of means, over all the places at which a new domain may have begun
(as in a generalised likelihood ratio test for a change of mean).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paramcast.device.errors import DeviceInputError
from paramcast.device.policy.base import SUPPORT, History
from paramcast.device.support import Seen
from paramcast.protocol.quantize import Float32

WINDOWS = (1, 2, 3, 4, 6, 8, 12, 16)
"""So many of the last clips may be those of a new domain."""

LEAST = 4
"""So many clips of the present domain have to be known before it can be left."""

_POOLED = 8.0
"""Clips' worth of trust in the mean variance of all entries, where few clips tell the variance of each."""


def drift_scores(
    domain: Sequence[Seen], windows: Sequence[int], history: Sequence[Seen]
) -> NDArray[np.float64]:
    """How far the last clips are from the ones before them, in terms of what chance alone would do.

    The means of n and m clips of one domain differ by v (1/n + 1/m) in the mean square, where v is the
    variance between its clips. That is estimated entry by entry from the differences of neighbors, which a
    change of domain hardly touches (von Neumann et al. 1941): uplink features have unit variance over the
    training set, but a clip's mean query has far less of it within a domain. So a score is about 1 where
    nothing has changed, whatever the features, and grows with n where something has.

    Args:
        domain: The clips since the present domain began, oldest first.
        windows: How many of the last of them may be another domain's, each in 1..len(domain) - 1.
        history: All remembered clips, of whatever domain, oldest first; the variance is taken from them.

    Returns:
        (W,) for each window the larger of the anchors' score and the queries'; in 0..inf.
    """
    anchors = [np.stack([clip.anchor for clip in clips]) for clips in (domain, history)]
    split = [len(domain) - window for window in windows]
    # A clip without a query has no row among the queries, so that places move.
    asked = np.cumsum([0, *(len(clip.queries) for clip in domain)])
    queries = [np.concatenate([clip.queries for clip in clips]) for clips in (domain, history)]
    return np.maximum(
        _scores(anchors[0], split, anchors[1]),
        _scores(queries[0], [int(asked[at]) for at in split], queries[1]),
    )


def _scores(domain: Float32, split: Sequence[int], history: Float32) -> NDArray[np.float64]:
    """Of rows (n, U) split at each of W places, with variances from rows (N, U); 0 where a part has none."""
    scores = np.zeros(len(split))
    if len(history) < 2:
        return scores
    steps = np.diff(history, axis=0)
    each = (steps * steps).mean(axis=0) / 2
    variance = (len(steps) * each + _POOLED * each.mean()) / (len(steps) + _POOLED) + 1e-12
    for place, at in enumerate(split):
        if 0 < at < len(domain):
            moved = domain[at:].mean(axis=0) - domain[:at].mean(axis=0)
            scores[place] = (moved * moved / variance).mean() / (1 / at + 1 / (len(domain) - at))
    return scores


class OnDrift:
    """Asks at the first clips of a domain, again as it has seen more of it, and when the domain changes.

    A package gets sharper with every clip that it is made for, and ever less so: it asks when the clips seen
    of the domain have doubled, up to `support`. Where the drift score rises above `high` for some number of
    last clips, a new domain has begun with those for which it is highest; the score has to fall below `low`
    before the next alarm. No alarm is sure to come, so it also asks when nothing was asked for `refresh`
    clips. A device that has started with a package from its store waits until it has seen half of `support`,
    so as not to replace it by a worse one.
    """

    def __init__(
        self,
        high: float = 2.5,
        low: float = 1.875,
        first: int = 2,
        support: int = SUPPORT,
        refresh: int | None = 20,
    ) -> None:
        """Prepare; the defaults are what validation streams of two collections spoke for (docs/log.md).

        Args:
            high: The drift score that raises the alarm.
            low: The one below which it is armed again, in 0..high.
            first: Clips to begin with, at least 1.
            support: Clips to ask with at most, at least `first`.
            refresh: Clips after which it asks whatever the score, more than `support`; None: it does not.

        Raises:
            DeviceInputError: An argument is out of its range.
        """
        if not 0 <= low <= high:
            raise DeviceInputError(f"0 <= low <= high must hold, not low {low} and high {high}")
        if not 1 <= first <= support:
            raise DeviceInputError(f"1 <= first <= support must hold, not {first} and {support}")
        if refresh is not None and refresh <= support:
            raise DeviceInputError(f"refresh must be more than support, not {refresh} with {support}")
        self._high, self._low, self._first, self._support = high, low, first, support
        self._refresh = refresh
        self._begun = 0  # clips observed before the present domain began
        self._armed = True
        self.score: float | None = None

    def wants(self, history: History) -> int:
        """See the class; `score` is what was found."""
        self._begun += self._new_clips(history)
        seen = min(history.observed - self._begun, self._support, len(history.recent))
        known = max(0, history.observed - history.since - self._begun)  # clips of this domain asked with
        if known >= self._support:
            return seen if self._refresh is not None and history.since >= self._refresh else 0
        restarted = history.running and history.since == history.observed and self._begun == 0
        first = max(self._first, self._support // 2) if restarted else self._first
        return seen if seen >= min(max(first, 2 * known), self._support) else 0

    def _new_clips(self, history: History) -> int:
        """How many clips of the present domain come before a new one, if one has just been found; else 0."""
        domain = history.recent[-min(history.observed - self._begun, len(history.recent)) :]
        windows = [window for window in WINDOWS if window + LEAST <= len(domain)]
        if not windows:
            return 0
        scores = drift_scores(domain, windows, history.recent)
        self.score = float(scores.max())
        if not self._armed:
            self._armed = self.score < self._low
            return 0
        if self.score <= self._high:
            return 0
        self._armed = False
        return history.observed - self._begun - windows[int(np.argmax(scores))]
