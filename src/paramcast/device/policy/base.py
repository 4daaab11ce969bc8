"""Interface of request policies, and the names of policies in the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paramcast.device.errors import DeviceInputError
from paramcast.device.support import Seen

SUPPORT = 16
"""Largest number of examples in a request; hypernetworks are trained with this number."""


@dataclass(frozen=True)
class History:
    """State of a device after an observation of an example (a clip, a row of sensor values).

    Attributes:
        observed: Number of examples observed since the start.
        since: Number of examples observed after the last successful request; without one, all of them.
        recent: The last examples, at most 64, oldest first.
        running: Whether the device runs a package, also one from its store.
    """

    observed: int
    since: int
    recent: Sequence[Seen]
    running: bool


class RequestPolicy(Protocol):
    """Decides after every observation whether to make a request.

    A policy may keep a state, so each device needs a separate policy. If the request could not be made, the
    policy decides again after the next observation.
    """

    def wants(self, history: History) -> int:
        """Return the number of the last examples to make a request with now; 0 for no request."""


def make_policy(text: str) -> RequestPolicy:
    """Make the policy that `text` names: `always`, `never`, `every:N` or `on-drift`.

    Raises:
        DeviceInputError: `text` names no policy.
    """
    from paramcast.device.policy.drift import OnDrift
    from paramcast.device.policy.fixed import Always, Every, Never

    name, _, number = text.partition(":")
    plain: dict[str, type[Always] | type[Never] | type[OnDrift]] = {
        "always": Always,
        "never": Never,
        "on-drift": OnDrift,
    }
    if name in plain and not number:
        return plain[name]()
    if name == "every" and number.isascii() and number.isdigit() and int(number) > 0:
        return Every(int(number))
    raise DeviceInputError(f"{text!r} is no request policy; there are: always, never, every:N, on-drift")
