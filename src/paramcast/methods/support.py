"""The part of a device's support set that a method may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest

import numpy as np
import torch

from paramcast.methods.background import Samples
from paramcast.methods.base import Labeled, Support
from paramcast.training.seeding import generator_for
from paramcast.video.tasks import Task
from paramcast.video.tasks.base import Asked
from paramcast.video.training.arrays import ClipData, DeviceData


def support_of(task: Task, samples: Samples, device: DeviceData, size: int, labels: int) -> Support:
    """Select the first `size` support clips of a device, and up to `labels` labels of them.

    Questions come with their clips. Captions come without, since the clip of a caption is its label.
    """
    clips = device.clips[: min(size, device.support)]
    items = np.concatenate([clip.items for clip in clips])
    if task.has_answers:
        asked = Asked(items[:, 0], items[:, 1], items[:, 3:])
    else:
        # Sorted before they are shuffled, so that the order does not reveal the pairs.
        rng = generator_for("unpaired", device.device.id)
        texts = rng.permutation(np.unique(items[:, 1]))
        asked = Asked(np.unique(items[:, 0]), texts, np.zeros((len(texts), 0), np.int64))
    bare = tuple(replace(clip, items=clip.items[:0], hints=clip.hints[:0]) for clip in clips)
    labeled = labeled_of(task, clips, labels) if labels else None
    return Support(device.device.id, samples, bare, asked, labeled)


def labeled_of(task: Task, clips: Sequence[ClipData], labels: int) -> Labeled:
    """Take the first `labels` labels of clips, in turns: the first of each clip, then the second, etc."""
    in_turn = chain.from_iterable(zip_longest(*(_pairs(task, clip) for clip in clips)))
    rows = np.stack([pair for pair in in_turn if pair is not None][:labels])
    if task.has_answers:
        return Labeled(Asked(rows[:, 0], rows[:, 1], rows[:, 3:]), torch.from_numpy(rows[:, 2].copy()))
    shown = np.unique(np.concatenate([clip.items[:, 0] for clip in clips]))
    places = torch.from_numpy(np.searchsorted(shown, rows[:, 0]))
    return Labeled(Asked(shown, rows[:, 1], rows[:, 3:]), places)


def _pairs(task: Task, clip: ClipData) -> np.ndarray:
    """Return the items (n, 3 + options) of a clip; if they show it as a whole, with its further captions."""
    told_whole = bool(len(clip.items)) and clip.items[0, 0] == clip.row
    if task.has_answers or not told_whole:
        return clip.items
    further = [[clip.row, text, -1] for text in clip.hints]
    return np.concatenate([clip.items, np.array(further, np.int64).reshape(-1, 3)])
