"""Multi-Modal Adapter with the interface of scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from paramcast.methods.mm_adapter.errors import FewShotError
from paramcast.methods.mm_adapter.fitting import FitSettings, fit
from paramcast.methods.mm_adapter.inputs import embeddings, labels, shots_of
from paramcast.methods.mm_adapter.network import MASKS, AdapterNet, Mask

_PREDICTED_AT_ONCE = 256


class MultiModalAdapter(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Few-shot adapter of a CLIP-like dual encoder (arXiv 2409.02958), on embeddings of any such encoder.

    Args:
        mask: Of the attention: `bias` (+1 on cross-modal pairs), `strict` (cross-modal pairs only) or `none`.
        blend: Share of the shift in an adapted embedding, in [0, 1].
        scale: Natural logarithm of what cosines are multiplied by; that of the encoder (CLIP's is log 100).
        learning_rate: Of Adam.
        epochs: At most.
        patience: Epochs without a better validation after which training stops.
        batch_size: Images a step.
        random_state: Seed.

    Attributes:
        network_: The trained `AdapterNet`.
        texts_: (C, D) float32, class texts of the fit, L2-normalised.
        classes_: (C,) int, 0 to C - 1.
        validation_: Best validation accuracy, in [0, 1].
    """

    def __init__(
        self,
        mask: Mask = "bias",
        blend: float = 0.2,
        scale: float = math.log(100),
        learning_rate: float = 1e-3,
        epochs: int = 100,
        patience: int = 15,
        batch_size: int = 32,
        random_state: int = 0,
    ) -> None:
        self.mask = mask
        self.blend = blend
        self.scale = scale
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, class_texts: Any, X_val: Any = None, y_val: Any = None
    ) -> MultiModalAdapter:
        """Train on the shots.

        Args:
            X: (N, D) image embeddings; normalised here.
            y: (N,) int in [0, C), rows of `class_texts`. A class without images is allowed.
            class_texts: (C, D) text embeddings, C >= 2.
            X_val: (M, D) image embeddings for early stopping; default: half of every class's images.
            y_val: (M,) their labels.

        Raises:
            FewShotError: Shapes that do not fit, NaN, infinity, labels out of range, or a bad option.
        """
        self._check_options()
        images = embeddings(X, "X")
        texts = embeddings(class_texts, "class_texts", images.shape[1])
        if len(texts) < 2:
            raise FewShotError("class_texts has one row; at least two classes are needed")
        shots = shots_of(
            images, labels(y, len(images), len(texts)), X_val, y_val, len(texts), self.random_state
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            network = AdapterNet(images.shape[1], self.mask, self.blend)
        settings = FitSettings(self.learning_rate, self.epochs, self.patience, self.batch_size)
        self.validation_, _ = fit(
            network,
            lambda some: math.exp(self.scale) * network.cosines(some, texts),
            shots,
            settings,
            self.random_state,
        )
        self.network_, self.texts_ = network, texts.numpy()
        self.classes_, self.n_features_in_ = np.arange(len(texts)), images.shape[1]
        return self

    def predict_proba(self, X: Any, class_texts: Any = None) -> np.ndarray:
        """Class probabilities.

        Args:
            X: (N, D) image embeddings.
            class_texts: (C', D) texts of other classes, seen in training or not; default: those of the fit.

        Returns:
            (N, C') float32, rows summing to 1.
        """
        check_is_fitted(self, "network_")
        images = embeddings(X, "X", self.n_features_in_)
        texts = embeddings(
            self.texts_ if class_texts is None else class_texts, "class_texts", self.n_features_in_
        )
        with torch.no_grad():
            parts: list[Tensor] = [
                self.network_.cosines(some, texts) for some in torch.split(images, _PREDICTED_AT_ONCE)
            ]
        shares: np.ndarray = (math.exp(self.scale) * torch.cat(parts)).softmax(-1).numpy()
        return shares

    def predict(self, X: Any, class_texts: Any = None) -> np.ndarray:
        """(N,) int, rows of the class texts."""
        rows: np.ndarray = self.predict_proba(X, class_texts).argmax(1)
        return rows

    def score(self, X: Any, y: Any, class_texts: Any = None) -> float:
        """Accuracy in [0, 1]; labels are rows of the class texts."""
        return float((self.predict(X, class_texts) == np.asarray(y)).mean())

    def _check_options(self) -> None:
        if self.mask not in MASKS:
            raise FewShotError(f"mask must be one of {', '.join(MASKS)}; got {self.mask!r}")
        if not 0 <= self.blend <= 1:
            raise FewShotError(f"blend must be in [0, 1]; got {self.blend!r}")
        for name in ("learning_rate", "epochs", "patience", "batch_size"):
            if not getattr(self, name) > 0:
                raise FewShotError(f"{name} must be positive; got {getattr(self, name)!r}")
        if not math.isfinite(self.scale):
            raise FewShotError(f"scale must be finite; got {self.scale!r}")
