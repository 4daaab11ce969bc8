"""M3BAT as scikit-learn estimators.

M3BAT (Meegahapola et al., IMWUT 8(2), 2024, arXiv 2404.17391): unsupervised domain adaptation of multi-modal
sensing by multi-branch adversarial training. docs/methods/m3bat.md says what is from the paper and what is
not.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from paramcast.methods.m3bat.branches import by_modality, by_shift
from paramcast.methods.m3bat.domains import Task, source_labels, source_rows
from paramcast.methods.m3bat.errors import OptionError, SamplesError
from paramcast.methods.m3bat.network import BranchNetwork
from paramcast.methods.m3bat.selection import Trial, choose, folds, judge, target_weights
from paramcast.methods.m3bat.shift import ShiftTable, cohens_d, shift_table, summarize_windows
from paramcast.methods.m3bat.training import Alignment, Plan, TaskLoss, train

FURTHEST = 50.0  # deviations of the source; values are clipped to this distance
STRENGTHS: dict[Alignment, tuple[float, ...]] = {
    "adversarial": (0.0, 0.1, 0.3, 1.0),
    "coral": (0.0, 1.0, 10.0, 100.0),
    "none": (0.0,),
}
"""Candidates of `strength=None`; 0 is the source model."""
_AT_ONCE = 1024  # rows in a batch of predictions
_CHOICES = {
    "branches": ("auto", "modality", "shift", "one"),
    "weighting": ("shift", "uniform"),
    "discriminators": ("branch", "one"),
    "schedule": ("staged", "end_to_end"),
    "alignment": ("adversarial", "coral", "none"),
}


class _M3BAT(BaseEstimator):  # type: ignore[misc]
    """Common parts of classifier and regressor."""

    _task: Task

    def __init__(
        self,
        modalities: Mapping[str, Sequence[Any]] | None = None,
        branches: Literal["auto", "modality", "shift", "one"] = "auto",
        shift_branches: int = 2,
        strength: float | Sequence[float] | None = None,
        networks: int = 4,
        weighting: Literal["shift", "uniform"] = "shift",
        discriminators: Literal["branch", "one"] = "branch",
        schedule: Literal["staged", "end_to_end"] = "staged",
        alignment: Alignment = "adversarial",
        hidden: int = 32,
        dropout: float = 0.1,
        steps: int = 300,
        batch_size: int = 64,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-3,
        random_state: int | np.random.RandomState | None = None,
        progress: bool = False,
    ) -> None:
        self.modalities = modalities
        self.branches = branches
        self.shift_branches = shift_branches
        self.strength = strength
        self.networks = networks
        self.weighting = weighting
        self.discriminators = discriminators
        self.schedule = schedule
        self.alignment = alignment
        self.hidden = hidden
        self.dropout = dropout
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Any, y: Any, sample_domain: Any = None) -> Self:
        """Train on labeled source rows and unlabeled target rows.

        Args:
            X: (N, F) table, or (N, T, C) raw windows of C channels; finite. A column that is constant over
                the source has no information on y and is ignored.
            y: (N,) labels. The labels of target rows are never read; they may be masked (-1 for classes, NaN
                for numbers).
            sample_domain: (N,) whole numbers, positive for source and negative for target. None: every row is
                source, and nothing is adapted.

        Raises:
            SamplesError: X is not finite or of the wrong shape.
            DomainError: `sample_domain` does not name both source and target rows.
            LabelsError: Source labels are missing, masked or of one class only.
            OptionError: An option has an invalid value.
            M3BATDivergedError: The loss became infinite.
        """
        strengths = self._check_options()
        data = self._samples(X, reset=True)
        source = source_rows(sample_domain, len(data))
        labels = self._encode_labels(source_labels(y, source, self._task, masked=sample_domain is not None))
        domains = np.zeros(len(data)) if sample_domain is None else np.asarray(sample_domain)
        random = check_random_state(self.random_state)
        inputs, targets = data[source], data[~source]
        self.window_shape_ = data.shape[1:]
        self._fit_scale(inputs)
        self._fit_branches(inputs, targets)
        rng = np.random.default_rng(random.randint(2**31 - 1))
        held_out = folds(domains[source], self.networks, rng)
        strengths = strengths if len(targets) else (0.0,)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random.randint(2**31 - 1)))
            network = self._network(data)
            # Networks with the same number start with the same weights at every strength.
            network.take(list(range(self.networks)) * len(strengths))
            losses = train(
                network,
                self._scaled(inputs).float(),
                labels,
                self._scaled(targets).float() if len(targets) else None,
                self._task_loss(),
                self._plan(strengths),
                rng,
                [np.setdiff1d(np.arange(len(inputs)), rows) for rows in held_out],
            )
        # In double precision, the answer to a row does not depend on the other rows of its batch.
        self.network_ = network.double()
        self.trials_ = (
            self._trials(strengths, inputs, labels, targets, held_out) if len(strengths) > 1 else ()
        )
        chosen = choose(self.trials_) if self.trials_ else 0
        self.strength_ = strengths[chosen]
        members = range(chosen * self.networks, (chosen + 1) * self.networks)
        self.network_.take(members)
        self.losses_ = losses[:, members].mean(1)
        return self

    def _trials(
        self,
        strengths: Sequence[float],
        source: np.ndarray,
        labels: Tensor,
        target: np.ndarray,
        held_out: Sequence[np.ndarray],
    ) -> tuple[Trial, ...]:
        """Evaluate every strength without target labels."""
        by_strength = (len(strengths), self.networks)
        scaled = [self._scaled(side) for side in (source, target)]
        flat = [side.numpy() if side.ndim == 2 else summarize_windows(side.mT.numpy()) for side in scaled]
        sides = [self._networks(side) for side in scaled]
        weights = target_weights(*flat)
        answers = [side.reshape(*by_strength, *side.shape[1:]) for side in sides]
        return tuple(
            judge(self._task, strength, of_source, of_target, labels.numpy(), held_out, weights)
            for strength, of_source, of_target in zip(strengths, *answers, strict=True)
        )

    def _answers(self, X: Any) -> np.ndarray:
        """Compute (N, K) probabilities, or (N, 1) values in deviations of the source labels, float64."""
        check_is_fitted(self)
        data = self._samples(X, reset=False)
        if data.shape[1:] != self.window_shape_:
            raise SamplesError(f"X has rows of shape {data.shape[1:]}, but fit saw {self.window_shape_}")
        mean: np.ndarray = self._networks(self._scaled(data)).mean(0)
        return mean

    def _networks(self, scaled: Tensor) -> np.ndarray:
        """Compute the answers of every network, (M, N, K)."""
        network, answers = self.network_, []
        with torch.inference_mode():
            for rows in torch.split(scaled, _AT_ONCE):
                outputs = network.predict(network.encode(rows.expand(network.members, *rows.shape)))
                answers.append(outputs.softmax(-1) if self._task == "classification" else outputs)
        return torch.cat(answers, dim=1).numpy()

    def _samples(self, X: Any, reset: bool) -> np.ndarray:
        try:
            data: np.ndarray = validate_data(self, X, reset=reset, dtype=np.float64, allow_nd=True)
        except ValueError as error:
            raise SamplesError(str(error)) from error
        if data.ndim > 3:
            raise SamplesError(f"X has {data.ndim} dimensions; give a table (N, F) or windows (N, T, C)")
        return data

    def _check_options(self) -> tuple[float, ...]:
        """Check the options, and return the strengths to choose from."""
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name}={getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        if self.branches == "modality" and not self.modalities:
            raise OptionError("branches='modality' needs modalities={name: [columns], ...}")
        for name in ("shift_branches", "networks", "hidden", "steps", "batch_size"):
            if int(getattr(self, name)) < 1:
                raise OptionError(f"{name}={getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout={self.dropout}; it must be at least 0 and below 1")
        if self.weight_decay < 0 or not self.learning_rate > 0:
            raise OptionError("weight_decay must be 0 or more, learning_rate above 0")
        given = STRENGTHS[self.alignment] if self.strength is None else self.strength
        strengths = tuple(float(each) for each in (given if np.iterable(given) else [given]))
        if not strengths or not all(each >= 0 for each in strengths):
            raise OptionError(f"strength={self.strength}; it must be 0 or more, or several such numbers")
        return strengths

    def _fit_scale(self, source: np.ndarray) -> None:
        """Standardize by the source alone, so that the scaling is not an adaptation."""
        axes = tuple(range(source.ndim - 1))
        deviation = source.std(axes)
        self.mean_ = source.mean(axes)
        constant = deviation <= 1e-12 * np.maximum(np.abs(self.mean_), 1e-12)
        self.inverse_scale_ = np.where(constant, 0.0, 1 / np.where(constant, 1.0, deviation))

    def _scaled(self, data: np.ndarray) -> Tensor:
        """Standardize to (N, F), or to channels first (N, C, T), float64."""
        scaled = np.clip((data - self.mean_) * self.inverse_scale_, -FURTHEST, FURTHEST)
        return torch.from_numpy(scaled if data.ndim == 2 else np.ascontiguousarray(scaled.transpose(0, 2, 1)))

    def _fit_branches(self, source: np.ndarray, target: np.ndarray) -> None:
        columns = source.shape[-1]
        names = [str(name) for name in getattr(self, "feature_names_in_", range(columns))]
        if source.ndim == 3:
            names = [str(channel) for channel in range(columns)]
        mode = self.branches
        if mode == "auto":
            mode = "modality" if self.modalities else "shift"
        if mode == "modality":
            assert self.modalities is not None  # _check_options
            self.branches_ = by_modality(self.modalities, names)
        elif mode == "shift" and len(target):
            self.branches_ = by_shift(_column_shift(source, target), self.shift_branches)
        else:
            self.branches_ = {"all": np.arange(columns)}
        self.shift_: ShiftTable | None = (
            shift_table(source, target, self.branches_, names) if len(target) else None
        )
        self.weights_ = self._branch_weights()

    def _branch_weights(self) -> dict[str, float]:
        """Compute w_b of the shared representation and of each branch: mean |d| over the mean of these."""
        names = ["shared", *(self.branches_ if len(self.branches_) > 1 else ())]
        if self.weighting == "uniform" or self.shift_ is None:
            return dict.fromkeys(names, 1.0)
        means = {"shared": float(np.abs(self.shift_.d).mean()), **self.shift_.by_branch()}
        average = sum(means[name] for name in names) / len(names)
        return {name: means[name] / average if average > 0 else 1.0 for name in names}

    def _network(self, data: np.ndarray) -> BranchNetwork:
        return BranchNetwork(
            self.networks,
            list(self.branches_.values()),
            columns=data.shape[-1],
            windows=data.ndim == 3,
            outputs=self._output_size(),
            hidden=self.hidden,
            dropout=self.dropout,
            joint=self.discriminators == "one",
        )

    def _plan(self, strengths: tuple[float, ...]) -> Plan:
        weights = (1.0,) if self.discriminators == "one" else tuple(self.weights_.values())
        return Plan(
            steps=self.steps,
            batch=self.batch_size,
            rate=self.learning_rate,
            decay=self.weight_decay,
            strength=tuple(each for each in strengths for _ in range(self.networks)),
            weights=weights,
            alignment=self.alignment,
            staged=self.schedule == "staged",
            progress=self.progress,
        )

    @abstractmethod
    def _encode_labels(self, labels: np.ndarray) -> Tensor:
        """Convert (Ns,) labels to the targets of the loss."""

    @abstractmethod
    def _output_size(self) -> int:
        """Return the number of outputs of the network."""

    @abstractmethod
    def _task_loss(self) -> TaskLoss:
        """Return L_task: (outputs (M, N, K), labels (M, N)) -> (M,)."""


def _column_shift(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Compute |d| of every column (F,), or the mean |d| of every channel's mean and deviation (C,)."""
    if source.ndim == 2:
        return np.asarray(np.abs(cohens_d(source, target)))
    both = np.abs(cohens_d(summarize_windows(source), summarize_windows(target)))
    return np.asarray(both.reshape(2, -1).mean(0))


class M3BATClassifier(ClassifierMixin, _M3BAT):  # type: ignore[misc]
    """Multi-branch adversarial adaptation, for classes.

        L = L_task + strength * lambda(p) * sum_b w_b L_dom,b

    The classes are the union of the classes of all source domains. A class that one source lacks is learned
    from the other sources.

    Args:
        modalities: Name -> columns (indices or column names; of windows: channel indices).
        branches: 'modality', 'shift' (equal groups by |d|), 'one' (a single branch, that is DANN); 'auto' is
            'modality' where modalities are given, else 'shift'.
        shift_branches: Number of groups for 'shift'.
        strength: Factor of the domain losses, >= 0. Of several factors, the best one by an estimate without
            target labels is used (`selection`). None: 0, 0.1, 0.3, 1 (for 'coral' 0, 1, 10, 100).
        networks: Number of networks for every strength. Each network is trained without another part of the
            source, and their answers are averaged; 1 holds nothing out.
        weighting: w_b from the branch's mean |d|, or all 1.
        discriminators: One for each branch, or one of all representations together.
        schedule: 'staged' (source only, then shared, then modality-specific) or 'end_to_end'.
        alignment: 'adversarial', 'coral' (Deep CORAL) or 'none' (source only): the same network and training,
            so that methods can be compared.
        hidden: Width of the representations.
        dropout: In [0, 1).
        steps: Optimizer steps.
        batch_size: Rows of either domain in a step.
        learning_rate: Peak rate of AdamW.
        weight_decay: Weight decay of AdamW.
        random_state: Seed; the same seed, data and options give the same model.
        progress: Show a progress bar on a terminal.

    Attributes:
        classes_: (K,) sorted.
        branches_: Name -> column indices.
        weights_: w_b of 'shared' and of every branch.
        shift_: ShiftTable, None without target rows.
        strength_: The strength that is used; 0 is the source model.
        trials_: Evaluations of all strengths; () if there was only one strength.
        losses_: (steps,) of training, mean over the networks that are used.
    """

    _task: Task = "classification"

    def predict(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Return the most probable classes (N,); `sample_domain`, skada's convention, is ignored."""
        answers = self._answers(X)
        return np.asarray(self.classes_[answers.argmax(1)])

    def predict_proba(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Return probabilities (N, K), mean over the networks.

        Columns are in the order of `classes_`, rows sum to 1. `sample_domain`, skada's convention, is
        ignored.
        """
        return self._answers(X)

    def _encode_labels(self, labels: np.ndarray) -> Tensor:
        self.classes_, codes = np.unique(labels, return_inverse=True)
        return torch.from_numpy(codes.astype(np.int64))

    def _output_size(self) -> int:
        return len(self.classes_)

    def _task_loss(self) -> TaskLoss:
        return lambda outputs, labels: F.cross_entropy(outputs.mT, labels, reduction="none").mean(-1)


class M3BATRegressor(RegressorMixin, _M3BAT):  # type: ignore[misc]
    """Multi-branch adversarial adaptation, for numbers; options and attributes as in M3BATClassifier.

    L_task is Huber's loss of the standardized value, a compromise between the absolute error that is reported
    and the squared error that trains smoothly.
    """

    _task: Task = "regression"

    def predict(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Return values (N,) float64, mean over the networks.

        `sample_domain`, skada's convention, is ignored.
        """
        return self._answers(X)[:, 0] * self.label_scale_ + self.label_mean_

    def _encode_labels(self, labels: np.ndarray) -> Tensor:
        self.label_mean_, deviation = float(labels.mean()), float(labels.std())
        self.label_scale_ = deviation if deviation > 0 else 1.0
        return torch.from_numpy((labels - self.label_mean_) / self.label_scale_).float()

    def _output_size(self) -> int:
        return 1

    def _task_loss(self) -> TaskLoss:
        return lambda outputs, values: F.smooth_l1_loss(outputs[..., 0], values, reduction="none").mean(-1)
