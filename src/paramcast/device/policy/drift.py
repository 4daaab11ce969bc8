"""Request a package when the data have moved away from the data that the present package was made for.

IntellectReq introduced this idea: parameters are requested only when the device's data have left the
distribution that the present parameters were made for (Lv et al., "Intelligent Model Update Strategy for
Sequential Recommendation", WWW 2024). Here the distance is a distance of means. It is computed for every
place at which a new domain may have begun, as in a generalized likelihood ratio test for a change of mean.
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
"""Numbers of last clips that are tested for belonging to a new domain."""

LEAST = 4
"""Number of clips of the present domain that must be known before a change of domain can be found."""

_POOLED = 8.0
"""Weight, in clips, of the mean variance of all entries: few clips give a poor variance of a single entry."""


def drift_scores(
    domain: Sequence[Seen], windows: Sequence[int], history: Sequence[Seen]
) -> NDArray[np.float64]:
    """Compute the distance of the last clips from the clips before them, relative to chance.

    If n and m clips come from one domain, the mean square difference of their means is v (1/n + 1/m), where v
    is the variance between clips of the domain. v is estimated for each entry from the differences of
    adjacent clips, because a change of domain hardly affects these (von Neumann et al. 1941). The variance
    over the training set cannot be used: it is 1 for uplink features, but the variance of a clip's mean query
    within a domain is far smaller. So the score is about 1 where the domain has not changed, whatever the
    features are, and grows with n where the domain has changed.

    Args:
        domain: Clips since the present domain began, oldest first.
        windows: Numbers of last clips that may belong to another domain, each in 1..len(domain) - 1.
        history: All remembered clips of any domain, oldest first; the variance is estimated from them.

    Returns:
        (W,) the larger of the scores of anchors and queries for each window; in 0..inf.
    """
    anchors = [np.stack([clip.anchor for clip in clips]) for clips in (domain, history)]
    split = [len(domain) - window for window in windows]
    # A clip without a query has no row among the queries, so places among the queries differ.
    asked = np.cumsum([0, *(len(clip.queries) for clip in domain)])
    queries = [np.concatenate([clip.queries for clip in clips]) for clips in (domain, history)]
    return np.maximum(
        _scores(anchors[0], split, anchors[1]),
        _scores(queries[0], [int(asked[at]) for at in split], queries[1]),
    )


def _scores(domain: Float32, split: Sequence[int], history: Float32) -> NDArray[np.float64]:
    """Compute scores (W,) of rows (n, U), split at each of W places, with variances from rows (N, U).

    The score is 0 where a part has no rows, or `history` has fewer than two.
    """
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
    """Requests a package at the first clips of a domain, after more clips of it, and when the domain changes.

    A package gets better with every clip that it is made for, but each further clip adds less. So the policy
    makes a request whenever the number of observed clips of the domain has doubled, up to `support` clips.

    The drift score is computed for several numbers of last clips. If the highest score rises above `high`, a
    new domain has begun with the clips of that score. The score must fall below `low` before the next alarm.
    A change may raise no alarm, so the policy also makes a request when `refresh` clips have been observed
    since the last request.

    A device that has started with a package from its store waits until it has observed half of `support`
    clips, so that the package is not replaced by a worse one.
    """

    def __init__(
        self,
        high: float = 2.5,
        low: float = 1.875,
        first: int = 2,
        support: int = SUPPORT,
        refresh: int | None = 20,
    ) -> None:
        """Prepare the policy. Validation streams of two collections gave the defaults (docs/log.md).

        Args:
            high: Drift score above which the alarm is raised.
            low: Drift score below which the alarm is armed again, in 0..high.
            first: Number of clips in the first request, at least 1.
            support: Largest number of clips in a request, at least `first`.
            refresh: Number of clips after which a request is made at any score, more than `support`; None for
                no such request.

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
        """Return the number of clips for a request; see the class. `score` holds the last drift score."""
        self._begun += self._new_clips(history)
        seen = min(history.observed - self._begun, self._support, len(history.recent))
        known = max(0, history.observed - history.since - self._begun)  # clips of the domain when last asked
        if known >= self._support:
            return seen if self._refresh is not None and history.since >= self._refresh else 0
        restarted = history.running and history.since == history.observed and self._begun == 0
        first = max(self._first, self._support // 2) if restarted else self._first
        return seen if seen >= min(max(first, 2 * known), self._support) else 0

    def _new_clips(self, history: History) -> int:
        """Return the number of clips of the present domain before a new domain begins; 0 if none begins."""
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
