"""Devices as arrays: which rows of the bank each clip and text is; sets of unlike size side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paramcast.video.shifts.fleet import Device

NO_ANSWER, UNKNOWN = -2, -1
"""In place of an answer's number: there is none, or the model does not know it."""


@dataclass(frozen=True)
class ClipData:
    """One clip as one device sees it.

    Attributes:
        clip_id: The clip's id.
        row: Its row of the bank.
        queries: (n,) rows of its queries' texts.
        items: (n, 3 + options): the row shown, the text's row, the answer's number (-1 where there is none),
            and in multiple choice the options' rows (-1 behind a question's last); there the number is the
            right option's place.
        hints: (n,) rows of further texts about the clip, for training only.
        right: (n, answers) the numbers of all answers that were given, as often as they were; UNKNOWN where
            the model has no such answer, NO_ANSWER behind the last. None: the answer of each item alone.
    """

    clip_id: str
    row: int
    queries: np.ndarray
    items: np.ndarray
    hints: np.ndarray
    right: np.ndarray = None  # type: ignore[assignment]  # never None once it is made

    def __post_init__(self) -> None:
        if self.right is None:
            object.__setattr__(self, "right", self.items[:, 2:3])


@dataclass(frozen=True)
class DeviceData:
    """One device: its clips, the first `support` of them for adaptation, and its true domain (R,) float32."""

    device: Device
    clips: tuple[ClipData, ...]
    support: int
    truth: np.ndarray

    @property
    def query(self) -> tuple[ClipData, ...]:
        """The clips on which it is scored."""
        return self.clips[self.support :]
