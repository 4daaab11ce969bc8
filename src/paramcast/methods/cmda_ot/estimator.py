"""CMDA-OT as a scikit-learn estimator: clients and server in one process, or clients in other processes."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from paramcast.methods.cmda_ot import model
from paramcast.methods.cmda_ot.alignment import Aligner, Alignment
from paramcast.methods.cmda_ot.client import Client
from paramcast.methods.cmda_ot.errors import FederationInputError
from paramcast.methods.cmda_ot.server import AnyClient, Server, ServerSettings
from paramcast.methods.cmda_ot.transport import TransportSettings


class CMDAOT(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Collaborative multi-source domain adaptation through optimal transport (arXiv 2404.06599).

    Domains follow skada: rows with a positive `sample_domain` are labeled sources, with one client for each
    value. Rows with a negative value are the target (all of them together); their labels are never read.

    Args:
        alignment: `none`, `moments` or `quantiles`: how each domain scales its features by itself.
        reg_entropy: Weight of the Sinkhorn transport's entropy, where the mean cost of a batch is 1.
        reg_class: Weight of its L1L2 regularization by class, where the mean cost of a batch is 1.
        batch_size: Largest number of samples of either side in one transport plan.
        clusters_per_class: Spectral clusters of the target for each class.
        cluster_weight: Weight in [0, 1] of the clusters beside the clients' votes in a pseudo-label; with 0
            nothing is clustered.
        subset_share: Share in (0, 1] of the target with the most confident pseudo-labels, which is the
            pseudo-labeled subset.
        rounds: Rounds of federated averaging.
        local_steps: Optimizer steps of a client in a round.
        tune_steps: Optimizer steps of the server on the pseudo-labeled subset in a round; 0 for none.
        final_steps: Optimizer steps of the server on the pseudo-labels of the whole target, at the end; 0 for
            none.
        hidden: Width of the classifier's hidden layer.
        learning_rate: Learning rate of its AdamW.
        weight_decay: Weight decay of its AdamW.
        dropout: Share of the hidden layer that is dropped in training, in [0, 1).
        random_state: Seed >= 0.

    Attributes:
        classes_: (C,) labels of the sources.
        n_features_in_: D.
        weights_: Weights of the classifier, by name.
        transported_: Client -> whether it kept the transported source.
        scores_: Client -> accuracy of its last model on the pseudo-labeled subset, in [0, 1].
        left_out_: Clients that failed, by step.
        pseudo_rows_: (M,) rows of X in the pseudo-labeled subset.
        pseudo_labels_: (M,) their pseudo-labels.
    """

    pseudo_rows_: np.ndarray

    def __init__(
        self,
        alignment: Alignment = "quantiles",
        reg_entropy: float = 1e-2,
        reg_class: float = 1e-2,
        batch_size: int = 1000,
        clusters_per_class: int = 3,
        cluster_weight: float = 0.0,
        subset_share: float = 0.5,
        rounds: int = 10,
        local_steps: int = 64,
        tune_steps: int = 16,
        final_steps: int = 512,
        hidden: int = 256,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        dropout: float = 0.5,
        random_state: int = 0,
    ) -> None:
        self.alignment = alignment
        self.reg_entropy = reg_entropy
        self.reg_class = reg_class
        self.batch_size = batch_size
        self.clusters_per_class = clusters_per_class
        self.cluster_weight = cluster_weight
        self.subset_share = subset_share
        self.rounds = rounds
        self.local_steps = local_steps
        self.tune_steps = tune_steps
        self.final_steps = final_steps
        self.hidden = hidden
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_domain: Any = None) -> CMDAOT:
        """Run the federation.

        Args:
            X: (N, D) numbers, finite. A constant feature is allowed: alignment makes it 0.
            y: (N,) labels; the labels of target rows may be anything.
            sample_domain: (N,) int, positive for sources, negative for the target. A class may be missing
                in some sources.

        Raises:
            FederationInputError: No target, no source, fewer than two classes, NaN, infinity, wrong lengths.
            FederationError: Every client failed.
        """
        self._check_options()
        samples = self._samples(X, reset=True)
        domain = _domains(len(samples), y, sample_domain)
        target = domain < 0
        labels = np.asarray(y, dtype=object)[~target]
        classes, codes = _encoded(labels)
        clients = self.clients(samples[~target], codes, domain[~target])
        self._federate(samples[target], classes, clients, 1)
        self.pseudo_rows_ = np.flatnonzero(target)[self.pseudo_rows_]
        return self

    def federate(self, target: Any, classes: Any, clients: Sequence[AnyClient], at_once: int = 1) -> CMDAOT:
        """Run the federation over given clients; `fit` makes its own clients.

        Args:
            target: (N, D) numbers, finite; `pseudo_rows_` are rows of it.
            classes: (C,) labels in the order of the clients' class numbers.
            clients: At least one, in this process or elsewhere.
            at_once: Number of clients that are asked at the same time; more than 1 for clients in other
                processes.

        Raises:
            FederationInputError: A target or an option that cannot be used.
            FederationError: Every client failed.
        """
        self._check_options()
        samples = self._samples(target, reset=True)
        return self._federate(samples, np.asarray(classes), clients, at_once)

    def _federate(
        self, samples: np.ndarray, classes: np.ndarray, clients: Sequence[AnyClient], at_once: int
    ) -> CMDAOT:
        self.classes_ = classes
        self._aligner = Aligner(self.alignment, samples)
        server = Server(
            samples,
            self.alignment,
            len(self.classes_),
            self._server(),
            self._training(),
            self.random_state,
            at_once,
        )
        self.weights_ = server.run(clients)
        self.transported_, self.scores_, self.left_out_ = server.transported, server.scores, server.left_out
        self.pseudo_rows_ = server.guidance.rows
        self.pseudo_labels_ = self.classes_[server.guidance.labels]
        return self

    def clients(self, X: np.ndarray, codes: np.ndarray, domain: np.ndarray) -> list[Client]:
        """Make one client for each source, in this process.

        Args:
            X: (n, D) float64, rows of all sources.
            codes: (n,) int, their classes.
            domain: (n,) int, their sources.
        """
        return [
            self.client(str(name), X[domain == name], codes[domain == name], number)
            for number, name in enumerate(np.unique(domain), start=1)
        ]

    def client(self, name: str, X: np.ndarray, codes: np.ndarray, number: int) -> Client:
        """Make the client of one source with these settings.

        Args:
            name: Its name.
            X: (n, D) float64.
            codes: (n,) int, the classes.
            number: Number of the client among all clients, from 1 on; its random draws depend on it.
        """
        return Client(
            name,
            X,
            codes,
            alignment=self.alignment,
            transport=TransportSettings(self.reg_entropy, self.reg_class, self.batch_size),
            training=self._training(),
            steps=self.local_steps,
            seed=self.random_state * 100 + number,
        )

    def predict_proba(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Compute class probabilities (N, C) float64 of target rows.

        `sample_domain`, if given, must be negative.
        """
        check_is_fitted(self, "weights_")
        samples = self._samples(X, reset=False)
        if sample_domain is not None and (np.asarray(sample_domain) >= 0).any():
            raise FederationInputError(
                "predictions are made for the target only: sample_domain must be negative"
            )
        return model.probabilities(self.weights_, self._aligner(samples))

    def predict(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Return the most probable label of each target row, (N,)."""
        best = self.predict_proba(X, sample_domain).argmax(1)
        labels: np.ndarray = self.classes_[best]
        return labels

    def _samples(self, X: Any, reset: bool) -> np.ndarray:
        """Check that X is (N, D) finite numbers, and convert it to float64; `reset` stores its columns."""
        try:
            samples: np.ndarray = validate_data(self, X, reset=reset, dtype=np.float64)
        except ValueError as error:
            raise FederationInputError(f"X cannot be used: {error}") from error
        return samples

    def _training(self) -> model.TrainSettings:
        return model.TrainSettings(self.hidden, self.learning_rate, self.weight_decay, self.dropout)

    def _server(self) -> ServerSettings:
        return ServerSettings(
            self.clusters_per_class,
            self.cluster_weight,
            self.subset_share,
            self.rounds,
            self.tune_steps,
            self.final_steps,
        )

    def _check_options(self) -> None:
        ranges = {
            "positive": ("reg_entropy", "learning_rate", "subset_share"),
            "at least 0": (
                "reg_class",
                "weight_decay",
                "tune_steps",
                "final_steps",
                "cluster_weight",
                "dropout",
                "random_state",
            ),
            "at least 1": ("batch_size", "clusters_per_class", "rounds", "local_steps", "hidden"),
        }
        tests = {"positive": lambda v: v > 0, "at least 0": lambda v: v >= 0, "at least 1": lambda v: v >= 1}
        for rule, names in ranges.items():
            for name in names:
                value = getattr(self, name)
                if not isinstance(value, Real) or not tests[rule](value):
                    raise FederationInputError(f"{name} must be {rule}; got {getattr(self, name)!r}")
        for name in ("subset_share", "cluster_weight", "dropout"):
            if getattr(self, name) > 1:
                raise FederationInputError(f"{name} must be at most 1; got {getattr(self, name)!r}")


def _domains(rows: int, y: Any, sample_domain: Any) -> np.ndarray:
    """Check `y` and `sample_domain`, and return the latter as (rows,) int."""
    if y is None:
        raise FederationInputError("requires y to be passed, but the target y is None")
    if sample_domain is None:
        raise FederationInputError(
            "give sample_domain: positive for rows of sources, negative for target rows"
        )
    domain = np.asarray(sample_domain)
    if domain.shape != (rows,) or len(np.asarray(y, dtype=object)) != rows:
        raise FederationInputError(f"X has {rows} rows: y and sample_domain must have as many")
    if domain.dtype.kind not in "iu" or (domain == 0).any():
        raise FederationInputError("sample_domain must hold positive (source) and negative (target) integers")
    for rule, name in (
        (domain < 0, "target: give its rows a negative"),
        (domain > 0, "source: give its rows a positive"),
    ):
        if not rule.any():
            raise FederationInputError(f"there is no {name} sample_domain")
    return domain


def _encoded(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct labels and the number of each label; labels are of any one sortable type."""
    plain = np.array(labels.tolist())
    if plain.ndim != 1 or (plain.dtype.kind == "f" and not np.isfinite(plain).all()) or None in labels:
        raise FederationInputError(
            "a label of a source is missing: y must be known where sample_domain is positive"
        )
    try:
        check_classification_targets(plain)
    except ValueError as error:
        raise FederationInputError(f"y does not hold classes: {error}") from error
    classes, codes = np.unique(plain, return_inverse=True)
    if len(classes) < 2:
        raise FederationInputError(
            f"the sources have one class only ({classes[0]!r}); at least two are needed"
        )
    return classes, codes
