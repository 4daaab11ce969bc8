"""Checks of the runtime's arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramcast.device.errors import DeviceInputError
from paramcast.protocol.quantize import Float32

MAX_FRAMES = 64
MAX_SIDE = 8192  # pixels

Frames = NDArray[np.uint8]
Parameters = Mapping[str, Float32]


def check_frames(frames: Any) -> Frames:
    """Return `frames` if they are (T, H, W, 3) uint8 with 1..64 frames and sides of 1..8192 pixels.

    Raises:
        DeviceInputError: They are anything else.
    """
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
        kind = frames.dtype if isinstance(frames, np.ndarray) else type(frames).__name__
        raise DeviceInputError(f"frames must be a numpy array of uint8, not {kind}")
    if frames.ndim != 4 or frames.shape[3] != 3:
        raise DeviceInputError(f"frames must have the shape (T, H, W, 3), not {frames.shape}")
    count, height, width, _ = frames.shape
    if not 1 <= count <= MAX_FRAMES:
        raise DeviceInputError(f"a clip must have 1 to {MAX_FRAMES} frames, not {count}")
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise DeviceInputError(f"a frame's sides must be 1 to {MAX_SIDE} pixels, not {height} x {width}")
    return frames


def check_text(text: Any) -> str:
    """Return `text` if it is a string that holds more than white space and can be written as UTF-8.

    Raises:
        DeviceInputError: It is anything else.
    """
    if not isinstance(text, str) or not text.strip():
        raise DeviceInputError("an option, question or query must be a text that is not empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DeviceInputError(f"an option, question or query is no valid text: {error.reason}") from error
    return text


def check_questions(questions: Sequence[Any]) -> list[str]:
    """Return `questions` if they are a list of one text or more.

    Raises:
        DeviceInputError: They are anything else.
    """
    if isinstance(questions, str):
        raise DeviceInputError(f"questions must be a list of texts, not one text; write [{questions!r:.60}]")
    texts = [check_text(question) for question in questions]
    if not texts:
        raise DeviceInputError("there is no question to answer")
    return texts


def check_queries(queries: Sequence[Any]) -> list[str]:
    """Return `queries` if they are a list of texts, which may be empty.

    Raises:
        DeviceInputError: They are anything else.
    """
    return check_questions(queries) if isinstance(queries, str) or len(queries) else []


def check_options(options: Sequence[Sequence[Any]], questions: int) -> list[list[str]]:
    """Return `options` if they hold a list of one text or more for each question.

    Raises:
        DeviceInputError: They are anything else.
    """
    if len(options) != questions:
        raise DeviceInputError(f"there are {len(options)} lists of options for {questions} questions")
    for number, those in enumerate(options, start=1):
        if isinstance(those, str) or not those:
            raise DeviceInputError(f"question {number} needs a list of options to choose from")
    return [[check_text(option) for option in those] for those in options]
