"""Clips of a collection and names of their classes in the space of a dual encoder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from paramcast.methods.mm_adapter.errors import FewShotError

if TYPE_CHECKING:  # these import the encoders and the decoders of pictures
    from experiments.methods.mm_adapter.encoders import DualEncoder
    from paramcast.video.data.collection import Clip, Collection

PROMPT = "a video of {}."
LEAST = 8
"""Smallest number of clips of a class: half are scored, and half of the rest are for validation."""

MSRVTT_CATEGORIES = (
    "music",
    "people",
    "gaming",
    "sports",
    "news",
    "education",
    "tv",
    "movie",
    "animation",
    "vehicles",
    "howto",
    "travel",
    "science",
    "animal",
    "kids",
    "documentary",
    "food",
    "cooking",
    "beauty",
    "ads",
)
"""Names of the numbers in the `category` of MSR-VTT's clips."""


@dataclass(frozen=True)
class Embedded:
    """A classification task in the space of a dual encoder.

    Attributes:
        names: (C,) names of the classes, in alphabetic order.
        texts: (C, D) float32, L2-normalized.
        images: (N, D) float32, L2-normalized.
        y: (N,) int, rows of `names`.
    """

    names: tuple[str, ...]
    texts: np.ndarray
    images: np.ndarray
    y: np.ndarray


def embed_task(encoder: DualEncoder, collection: Collection, label: str, prompt: str = PROMPT) -> Embedded:
    """Embed the clips of a collection and the names of their classes.

    Args:
        encoder: Clips that it was trained on are left out.
        collection: Its clips are classified.
        label: A clip's `category`, or any key of its line in clips.jsonl; of a list, the first entry counts.
        prompt: `{}` in it becomes the class's name.

    Raises:
        FewShotError: Fewer than two classes with `LEAST` clips, or a prompt without `{}`.
    """
    if "{}" not in prompt:
        raise FewShotError(f"prompt {prompt!r} has no {{}}, where a class's name belongs")
    fresh = [clip for clip in collection.clips if clip.id not in encoder.seen]
    labeled = {clip.id: name for clip in fresh if (name := class_name(clip, label)) is not None}
    names = tuple(sorted(name for name, count in Counter(labeled.values()).items() if count >= LEAST))
    if len(names) < 2:
        seen = len(collection.clips) - len(fresh)
        why = f"; {seen} clips do not count, as the encoder was trained on them" if seen else ""
        raise FewShotError(
            f"{collection.name!r} has fewer than two classes of {label!r} with {LEAST} clips{why}"
        )
    ids = [clip for clip, name in labeled.items() if name in names]
    store = encoder.store(collection)
    return Embedded(
        names,
        encoder.texts(store.texts([prompt.replace("{}", name) for name in names])),
        encoder.clips(store.clips([(clip, ()) for clip in ids])),
        np.array([names.index(labeled[clip]) for clip in ids]),
    )


def class_name(clip: Clip, label: str) -> str | None:
    """Return the name of a clip's class, or None where it has none."""
    value = clip.category if label == "category" else clip.extra.get(label)
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None:
        return None
    name = str(value)
    is_number = label == "category" and name.isdigit() and int(name) < len(MSRVTT_CATEGORIES)
    return MSRVTT_CATEGORIES[int(name)] if is_number else name
