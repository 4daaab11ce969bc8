"""Policies that do not look at what was seen."""

from __future__ import annotations

from dataclasses import dataclass

from paramcast.device.policy.base import SUPPORT, History


@dataclass(frozen=True)
class Never:
    """The base model, or the last package, for ever."""

    def wants(self, history: History) -> int:
        """0."""
        return 0


@dataclass(frozen=True)
class Every:
    """Asks when `clips` clips have been observed since it was asked last, with the last `support` of them."""

    clips: int
    support: int = SUPPORT

    def wants(self, history: History) -> int:
        """See the class."""
        return min(self.support, len(history.recent)) if history.since >= self.clips else 0


@dataclass(frozen=True)
class Always:
    """Asks after every clip, with the last `support` of them."""

    support: int = SUPPORT

    def wants(self, history: History) -> int:
        """See the class."""
        return min(self.support, len(history.recent))
