"""Dual encoders of the benchmark: a model of this project, or a pretrained one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from paramcast.methods.mm_adapter.errors import FewShotError
from paramcast.video.data.features import FeatureStore
from paramcast.video.encoders import image_encoder, text_encoder
from paramcast.video.models.retrieval import RetrievalModel

if TYPE_CHECKING:
    from paramcast.video.data.collection import Collection
    from paramcast.video.training.model import TrainedModel


class DualEncoder(Protocol):
    """Encoder of clips and texts into one space.

    Attributes:
        name: Name in the results.
        seen: Ids of clips that it was trained on.
    """

    name: str
    seen: frozenset[str]

    def store(self, collection: Collection) -> FeatureStore:
        """Return the source of the trunks' features of clips and texts."""

    def clips(self, features: Sequence[np.ndarray]) -> np.ndarray:
        """Embed N clips, (T, F) float32 each -> (N, D) float32, L2-normalized."""

    def texts(self, features: np.ndarray) -> np.ndarray:
        """Embed texts (N, F) float32 -> (N, D) float32, L2-normalized."""


class RetrievalEncoder:
    """The base of a model that `paramcast train --task retrieval` made.

    Half of its cosine is from two heads, which are trained on captions. The other half was never trained on
    clips: it is from the output of the image trunk's classifier, as a sum of class names in the text trunk's
    space.
    """

    def __init__(self, model: TrainedModel) -> None:
        if not isinstance(model.base, RetrievalModel):
            raise FewShotError(
                f"the model is for {model.config.task}; give one of `paramcast train --task retrieval`"
            )
        self._base = model.base
        self.store = model.store
        self.name = f"retrieval model of {model.config.collection}, seed {model.config.seed}"
        self.seen = frozenset(clip for split in ("train", "validation") for clip in model.config.clips[split])

    def clips(self, features: Sequence[np.ndarray]) -> np.ndarray:
        """Embed N clips, (T, F) float32 each -> (N, D) float32, L2-normalized."""
        with torch.no_grad():
            rows = [
                self._base.embed_clips(
                    torch.from_numpy(np.array(each))[None], torch.ones(1, len(each), dtype=torch.bool)
                )
                for each in features
            ]
        embedded: np.ndarray = torch.cat(rows).numpy()
        return embedded

    def texts(self, features: np.ndarray) -> np.ndarray:
        """Embed texts (N, F) float32 -> (N, D) float32, L2-normalized."""
        with torch.no_grad():
            embedded: np.ndarray = self._base.embed_texts(torch.from_numpy(features)).numpy()
        return embedded


class PretrainedEncoder:
    """A pretrained dual encoder, such as `open_clip:ViT-B-32:openai`; a clip is the mean of its frames.

    Args:
        name: Name of an image and of a text encoder of one space; see `paramcast.video.encoders`.
        frames: Largest number of frames of a clip.
    """

    seen: frozenset[str] = frozenset()

    def __init__(self, name: str, frames: int = 8) -> None:
        self._image, self._text, self._frames = image_encoder(name), text_encoder(name), frames
        self.name = name

    def store(self, collection: Collection) -> FeatureStore:
        """Return the source of the features of clips and texts."""
        return FeatureStore(collection, self._image, self._text, self._frames)

    def clips(self, features: Sequence[np.ndarray]) -> np.ndarray:
        """Embed N clips, (T, D) float32 each -> (N, D) float32, L2-normalized."""
        return _unit(np.stack([_unit(each).mean(0) for each in features]))

    def texts(self, features: np.ndarray) -> np.ndarray:
        """Embed texts (N, D) float32 -> (N, D) float32, L2-normalized."""
        return _unit(features)


def _unit(rows: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled
