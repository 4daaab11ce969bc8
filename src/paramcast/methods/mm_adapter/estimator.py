"""Multi-Modal Adapter with the interface of scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.nn import functional as F

from paramcast.methods.mm_adapter.errors import FewShotError
from paramcast.methods.mm_adapter.fitting import FitSettings, Shots, Validation, fit, fitted_scale
from paramcast.methods.mm_adapter.inputs import (
    class_labels,
    column,
    embeddings,
    row_labels,
    shots_of,
    text_embeddings,
)
from paramcast.methods.mm_adapter.network import MASKS, AdapterNet, Mask

RATES = (1e-3, 3e-3, 1e-2)
"""Learning rates that the adapter (by default) and the trained baselines try."""

_PREDICTED_AT_ONCE = 256


class MultiModalAdapter(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Few-shot adapter of a CLIP-like dual encoder (arXiv 2409.02958), on embeddings of any such encoder.

    Args:
        mask: Mask of the attention: `strict` (cross-modal pairs only), `bias` (+1 on cross-modal pairs) or
            `none`.
        blend: Share of the shift in an adapted embedding, in [0, 1].
        scale: Natural logarithm of the factor of cosines, such as that of the encoder (CLIP's is log 100). By
            default, it is fitted: the value in [log 10, log 100] with which unadapted cosines explain the
            training labels best.
        learning_rate: Learning rate of Adam; of several rates, the best on validation is used.
        steps: Largest number of steps of Adam.
        patience: Number of steps without a better validation after which training stops.
        batch_size: Images in a step.
        random_state: Seed of the initial network, of held-out images and of the order of images.

    Attributes:
        network_: The trained `AdapterNet`.
        texts_: (C, D) float32, class texts of the fit, L2-normalized.
        classes_: (C,) rows of the class texts, 0 to C - 1; without class texts, the labels found in y.
        learning_rate_, scale_: The chosen values.
        validation_: Accuracy in [0, 1] and minus the cross-entropy on validation images, with the chosen
            values.
        n_features_in_: D.
    """

    def __init__(
        self,
        mask: Mask = "strict",
        blend: float = 0.2,
        scale: float | None = None,
        learning_rate: float | Sequence[float] = RATES,
        steps: int = 300,
        patience: int = 100,
        batch_size: int = 64,
        random_state: Any = 0,
    ) -> None:
        self.mask = mask
        self.blend = blend
        self.scale = scale
        self.learning_rate = learning_rate
        self.steps = steps
        self.patience = patience
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, class_texts: Any = None, X_val: Any = None, y_val: Any = None
    ) -> MultiModalAdapter:
        """Train on the shots.

        Args:
            X: (N, D) image embeddings; normalized here. An image of zeros is equally near to all texts.
            y: (N,) rows of `class_texts`: int in [0, C). A class without images is allowed, as its text still
                names it. Without class texts: labels of any kind.
            class_texts: (C, D) text embeddings, C >= 2. By default the mean image of a class is its text.
            X_val: (M, D) image embeddings for early stopping; by default half of every class's images.
            y_val: (M,) their labels.

        Raises:
            FewShotError: Shapes that do not fit, NaN, infinity, labels out of range, or a bad option.
        """
        self._check_options()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        images = self._images(X, reset=True)
        if class_texts is None:
            self.classes_, rows = class_labels(y, len(images))
            texts = F.normalize(F.one_hot(rows).float().T @ images, dim=-1)
        else:
            texts = text_embeddings(class_texts, images.shape[1])
            self.classes_ = np.arange(len(texts))
            rows = row_labels(y, len(images), len(texts))
        if len(texts) < 2:
            raise FewShotError(f"y has one class, {self.classes_[0]!r}; at least two classes are needed")
        shots = shots_of(images, rows, self._validation(X_val, y_val), seed)
        self.scale_ = fitted_scale(images @ texts.T, rows) if self.scale is None else self.scale
        self.texts_ = texts.numpy()
        found = [(rate, *self._trained(shots, texts, rate, seed)) for rate in self._rates()]
        self.learning_rate_, self.network_, self.validation_ = max(found, key=lambda each: each[2])
        return self

    def predict_proba(self, X: Any, class_texts: Any = None) -> np.ndarray:
        """Compute class probabilities.

        Args:
            X: (N, D) image embeddings.
            class_texts: (C', D) texts of other classes, seen in training or not; default: the texts of the
                fit.

        Returns:
            (N, C') float32, rows summing to 1.
        """
        check_is_fitted(self, "network_")
        images = self._images(X, reset=False)
        texts = torch.from_numpy(self.texts_)
        if class_texts is not None:
            texts = text_embeddings(class_texts, self.n_features_in_)
        with torch.no_grad():
            parts: list[Tensor] = [
                self.network_.cosines(some, texts) for some in torch.split(images, _PREDICTED_AT_ONCE)
            ]
        shares: np.ndarray = (math.exp(self.scale_) * torch.cat(parts)).softmax(-1).numpy()
        return shares

    def predict(self, X: Any, class_texts: Any = None) -> np.ndarray:
        """Return (N,) of `classes_`; with class texts given here, their row numbers."""
        rows: np.ndarray = self.predict_proba(X, class_texts).argmax(1)
        return self.classes_[rows] if class_texts is None else rows

    def score(self, X: Any, y: Any, class_texts: Any = None) -> float:
        """Compute the accuracy in [0, 1]; y has the form that `predict` returns."""
        predicted = self.predict(X, class_texts)
        if np.shape(y) != predicted.shape:
            raise FewShotError(
                f"y has shape {np.shape(y)}; give one label for each of {len(predicted)} images"
            )
        return float((predicted == np.asarray(y)).mean())

    def _trained(self, shots: Shots, texts: Tensor, rate: float, seed: int) -> tuple[AdapterNet, Validation]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = AdapterNet(texts.shape[1], self.mask, self.blend)
        network.look_at(torch.cat([shots.images, texts]))

        def logits(images: Tensor) -> Tensor:
            return math.exp(self.scale_) * network.cosines(images, texts)

        settings = FitSettings(rate, self.steps, self.patience, self.batch_size)
        return network, fit(network, logits, shots, settings, seed)

    def _images(self, X: Any, *, reset: bool) -> Tensor:
        try:
            return embeddings(validate_data(self, X, reset=reset, dtype=np.float64), "X")
        except FewShotError:
            raise
        except ValueError as error:
            raise FewShotError(f"X: {error}") from error

    def _validation(self, X_val: Any, y_val: Any) -> tuple[Tensor, Tensor] | None:
        if (X_val is None) != (y_val is None):
            raise FewShotError("give both X_val and y_val, or neither")
        if X_val is None:
            return None
        images = embeddings(X_val, "X_val", self.n_features_in_)
        known = column(y_val, len(images), "y_val")
        if not np.isin(known, self.classes_).all():
            raise FewShotError("y_val has labels that are not among the classes of the fit")
        return images, torch.from_numpy(np.searchsorted(self.classes_, known))

    def _check_options(self) -> None:
        if self.mask not in MASKS:
            raise FewShotError(f"mask must be one of {', '.join(MASKS)}; got {self.mask!r}")
        if not 0 <= self.blend <= 1:
            raise FewShotError(f"blend must be in [0, 1]; got {self.blend!r}")
        if not self._rates() or not all(0 < rate < math.inf for rate in self._rates()):
            raise FewShotError(f"learning_rate must be positive, or several such; got {self.learning_rate!r}")
        for name in ("steps", "patience", "batch_size"):
            if not getattr(self, name) >= 1:
                raise FewShotError(f"{name} must be at least 1; got {getattr(self, name)!r}")
        if self.scale is not None and not math.isfinite(self.scale):
            raise FewShotError(f"scale must be finite; got {self.scale!r}")

    def _rates(self) -> Sequence[float]:
        return self.learning_rate if isinstance(self.learning_rate, Sequence) else (self.learning_rate,)
