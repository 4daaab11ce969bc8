"""A text in place of a list of texts is an error, not a question for each of its letters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paramcast.device import DeviceInputError, DeviceRuntime


def test_a_string_is_no_list_of_questions(bundle: Path) -> None:
    runtime, frames = DeviceRuntime.load(bundle, "cam-1"), np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(DeviceInputError, match=r"questions must be a list of texts, .* \['who\?'\]"):
        runtime.answer(frames, "who?")
    with pytest.raises(DeviceInputError, match="must be a list of texts"):
        runtime.observe(frames, "who?")
    assert runtime.observed == 0
    assert len(runtime.answer(frames, ["who?"])) == 1
    runtime.observe(frames, [])
    assert runtime.observed == 1
