"""Embeddings of a collection's clips and classes by the project's own dual encoder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from paramcast.data.seeding import seed_from
from paramcast.methods.mm_adapter.errors import FewShotError
from paramcast.models.retrieval import RetrievalModel

if TYPE_CHECKING:  # these bring the encoders and the decoders of pictures
    from paramcast.data.collection import Clip, Collection
    from paramcast.training.model import TrainedModel

PROMPT = "a video of {}."
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
"""Names of the numbers that MSR-VTT's clips carry as `category`."""


@dataclass(frozen=True)
class Embedded:
    """A classification task in the space of a dual encoder.

    Attributes:
        names: (C,) of the classes.
        texts: (C, D) float32, L2-normalised.
        pool, pool_y: (N, D) float32 and (N,) int: images that shots are drawn from.
        test, test_y: (M, D) and (M,): images that are scored.
        factor: What the encoder multiplies cosines by.
    """

    names: tuple[str, ...]
    texts: np.ndarray
    pool: np.ndarray
    pool_y: np.ndarray
    test: np.ndarray
    test_y: np.ndarray
    factor: float


def embed_task(model: TrainedModel, collection: Collection, label: str, least: int = 8) -> Embedded:
    """Embed the clips of a collection and the names of their classes.

    Args:
        model: Trained for retrieval.
        collection: Whose clips are classified. If the model was trained on it, only clips that the training
            never touched are scored; else one half, drawn by clip id.
        label: A clip's `category`, or any key of its line in clips.jsonl; of a list, the first entry counts.
        least: Classes with fewer clips than this on either side are left out.

    Raises:
        FewShotError: A model for another task, or fewer than two classes.
    """
    _encoder(model)
    labelled = {clip.id: name for clip in collection.clips if (name := class_name(clip, label)) is not None}
    held = _held_out(model, collection)
    counts = [
        Counter(name for clip, name in labelled.items() if (clip in held) is side) for side in (False, True)
    ]
    names = tuple(sorted(name for name in set(labelled.values()) if min(c[name] for c in counts) >= least))
    if len(names) < 2:
        raise FewShotError(
            f"{collection.name!r} has fewer than two classes of {label!r} with {least} clips a side"
        )
    ids = [clip for clip, name in labelled.items() if name in names]
    images = embed_clips(model, collection, ids)
    y = np.array([names.index(labelled[clip]) for clip in ids])
    test = np.array([clip in held for clip in ids])
    texts = embed_texts(model, collection, [PROMPT.format(name) for name in names])
    factor = RetrievalModel.temperature
    return Embedded(names, texts, images[~test], y[~test], images[test], y[test], factor)


def embed_clips(model: TrainedModel, collection: Collection, ids: list[str]) -> np.ndarray:
    """(N, D) float32, L2-normalised embeddings of clips, by id."""
    frames = model.store(collection).clips([(clip, ()) for clip in ids])
    with torch.no_grad():
        rows = [
            _encoder(model).embed_clips(
                torch.from_numpy(np.array(each))[None], torch.ones(1, len(each), dtype=torch.bool)
            )
            for each in frames
        ]
    embedded: np.ndarray = torch.cat(rows).numpy()
    return embedded


def embed_texts(model: TrainedModel, collection: Collection, texts: list[str]) -> np.ndarray:
    """(N, D) float32, L2-normalised embeddings of texts."""
    features = model.store(collection).texts(texts)
    with torch.no_grad():
        embedded: np.ndarray = _encoder(model).embed_texts(torch.from_numpy(features)).numpy()
    return embedded


def class_name(clip: Clip, label: str) -> str | None:
    """The name of a clip's class, or None where it has none."""
    value = clip.category if label == "category" else clip.extra.get(label)
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None:
        return None
    name = str(value)
    # MSR-VTT writes its categories as numbers.
    return MSRVTT_CATEGORIES[int(name)] if name.isdigit() and int(name) < len(MSRVTT_CATEGORIES) else name


def _held_out(model: TrainedModel, collection: Collection) -> set[str]:
    if collection.name == model.config.collection:
        return set(model.config.clips["test"])
    return {clip.id for clip in collection.clips if seed_from("few-shot test", clip.id) % 2}


def _encoder(model: TrainedModel) -> RetrievalModel:
    if not isinstance(model.base, RetrievalModel):
        raise FewShotError(f"the model is for {model.config.task}; one for retrieval is needed")
    return model.base
