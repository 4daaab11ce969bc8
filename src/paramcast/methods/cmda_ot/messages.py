"""All messages between server and clients. No field can hold a source sample: see the shapes.

There are C classes, K clusters of the target, N target samples, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Invitation:
    """Message from the server to a client, once: the target.

    Attributes:
        target: (N, D) float64, target samples before alignment.
        clusters: (N,) int in [0, K), the cluster of each sample.
        classes: C.
    """

    target: np.ndarray
    clusters: np.ndarray
    classes: int


@dataclass(frozen=True)
class Evidence:
    """Message from a client to the server, once: votes of its source for the classes of the target.

    Attributes:
        client: Its name.
        present: (C,) bool, the classes that its source has.
        distances: (C, K) float64 >= 0, Wasserstein distance of class to cluster; 0 where not present.
        plan: (N, C) float64, the classes that its plan brings to each target sample; rows sum to 1.
        model: (N, C) float64, the votes of a model of the source before the transport; rows sum to 1.
        cost: Mean cost of its transport plan >= 0, where the mean cost of all pairs is 1.
        samples: Number of samples of its source, >= 1.
    """

    client: str
    present: np.ndarray
    distances: np.ndarray
    plan: np.ndarray
    model: np.ndarray
    cost: float
    samples: int


@dataclass(frozen=True)
class Guidance:
    """Message from the server to a client, once: the pseudo-labeled subset of the target.

    Attributes:
        rows: (M,) int, rows of `Invitation.target`.
        labels: (M,) int in [0, C).
    """

    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Global:
    """Message from the server to a client, every round: the model's weights by name, float32."""

    round: int
    weights: Arrays


@dataclass(frozen=True)
class Update:
    """Message from a client to the server, every round: its weights, and whether it used transported data.

    Attributes:
        client: Its name.
        weights: Names, shapes and dtypes of `Global.weights`.
        transported: Whether the transported source was kept.
    """

    client: str
    weights: Arrays
    transported: bool
