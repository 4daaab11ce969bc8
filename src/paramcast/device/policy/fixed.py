"""Policies that do not depend on the data."""

from __future__ import annotations

from dataclasses import dataclass

from paramcast.device.policy.base import SUPPORT, History


@dataclass(frozen=True)
class Never:
    """Never makes a request: the base model, or the last package, runs forever."""

    def wants(self, history: History) -> int:
        """Return 0."""
        return 0


@dataclass(frozen=True)
class Every:
    """Makes a request after every `clips` observed clips, with the last `support` clips."""

    clips: int
    support: int = SUPPORT

    def wants(self, history: History) -> int:
        """Return the number of clips for a request; see the class."""
        return min(self.support, len(history.recent)) if history.since >= self.clips else 0


@dataclass(frozen=True)
class Always:
    """Makes a request after every clip, with the last `support` clips."""

    support: int = SUPPORT

    def wants(self, history: History) -> int:
        """Return the number of clips for a request; see the class."""
        return min(self.support, len(history.recent))
