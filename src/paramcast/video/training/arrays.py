"""Devices in the form of arrays: the bank's rows of each clip and text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paramcast.video.shifts.fleet import Device

NO_ANSWER, UNKNOWN = -2, -1
"""Values in place of an answer's number: there is no answer, or the model does not know it."""


@dataclass(frozen=True)
class ClipData:
    """One clip in the view of one device.

    Attributes:
        clip_id: The clip's id.
        row: The clip's row of the bank.
        queries: (n,) rows of the texts of its queries.
        items: (n, 3 + options): the row of the clip or frame, the row of the text, the answer's number (-1
            where there is none), and in multiple choice the rows of the options (-1 after a question's last
            option). In multiple choice, the answer's number is the place of the right option.
        hints: (n,) rows of further texts about the clip, for training only.
        right: (n, answers) the numbers of all given answers, repeated as often as they were given; UNKNOWN
            where the model does not know the answer, NO_ANSWER after the last. None: only the answer of each
            item.
    """

    clip_id: str
    row: int
    queries: np.ndarray
    items: np.ndarray
    hints: np.ndarray
    right: np.ndarray = None  # type: ignore[assignment]  # never None after __post_init__

    def __post_init__(self) -> None:
        if self.right is None:
            object.__setattr__(self, "right", self.items[:, 2:3])


@dataclass(frozen=True)
class DeviceData:
    """One device: its clips, of which the first `support` are for adaptation, and its domain (R,) float32."""

    device: Device
    clips: tuple[ClipData, ...]
    support: int
    truth: np.ndarray

    @property
    def query(self) -> tuple[ClipData, ...]:
        """The query clips."""
        return self.clips[self.support :]
