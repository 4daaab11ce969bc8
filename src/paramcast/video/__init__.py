"""Video question answering and text-video retrieval: the first application of the library."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from paramcast.video.training.model import TrainedModel

__all__ = ["read_frames", "train"]


def read_frames(
    path: Path | str,
    count: int = 8,
    sampling: str = "uniform",
    start: float | None = None,
    end: float | None = None,
) -> np.ndarray:
    """Read at most `count` frames of a video file, in order.

    Args:
        path: The file.
        count: Maximal number of frames.
        sampling: `uniform` over the frames, `time` over the seconds, or `scene` over the scenes.
        start: Seconds within the file from which frames are taken; None: the start of the file.
        end: Seconds within the file up to which frames are taken; None: the end of the file.

    Returns:
        (T, H, W, 3) uint8 RGB, 1 <= T <= count, min(H, W) <= 256, aspect ratio kept.

    Raises:
        InputError: The file cannot be read, or an argument is wrong.
        MissingExtraError: PyAV or Pillow is not installed.
    """
    from paramcast.video.data.frames import read_clip

    return read_clip(path, count, sampling, start, end)


def train(data: Path | str, task: str, out: Path | str | None = None, **options: Any) -> TrainedModel:
    """Train a base model and its hypernetworks on a collection of clips.

    Args:
        data: The collection: a folder with a clips.jsonl.
        task: `qa`, `choice` or `retrieval`.
        out: The model's folder; an interrupted run continues from it. None: the model is kept only in memory.
        options: As in `paramcast.video.training.options.TrainingOptions`: `seed`, `devices`, ...

    Returns:
        The model: it has `evaluate`, `export` and `save`.

    Raises:
        InputError: The collection cannot be used for the task, or `out` holds a run with other options.
    """
    from paramcast.video.data.collection import Collection
    from paramcast.video.training.options import TrainingOptions
    from paramcast.video.training.pipeline import train as train_collection

    with tempfile.TemporaryDirectory() as scratch:
        return train_collection(Collection.open(data), Path(out or scratch), TrainingOptions(task, **options))
