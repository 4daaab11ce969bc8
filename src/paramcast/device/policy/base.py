"""What every request policy is asked, and how one is named in a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paramcast.device.errors import DeviceInputError
from paramcast.device.support import Seen

SUPPORT = 16
"""Examples that a request holds at most: as many as hypernetworks are trained with."""


@dataclass(frozen=True)
class History:
    """What a device knows when it has observed an example (a clip, a row of sensor values).

    Attributes:
        observed: Examples observed since the start.
        since: Those of them that came after the present package was asked for; all, before it was asked.
        recent: The last of them, at most 64, oldest first.
        running: Whether the device runs a package, be it one from its store.
    """

    observed: int
    since: int
    recent: Sequence[Seen]
    running: bool


class RequestPolicy(Protocol):
    """Decides after every observation; may keep a state of its own, so that each device needs one of its own.

    It is asked again after the next one if the request could not be made.
    """

    def wants(self, history: History) -> int:
        """How many of the last examples to ask with now; 0: do not ask."""


def make_policy(text: str) -> RequestPolicy:
    """The policy that `text` names: `always`, `never`, `every:N` or `on-drift`.

    Raises:
        DeviceInputError: It names none.
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
