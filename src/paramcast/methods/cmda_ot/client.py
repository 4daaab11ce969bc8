"""Client of a federation: holds one labeled source, and never sends a sample of it."""

from __future__ import annotations

import numpy as np

from paramcast.methods.cmda_ot import model
from paramcast.methods.cmda_ot.alignment import Aligner, Alignment, CommonScale
from paramcast.methods.cmda_ot.messages import Arrays, Evidence, Global, Guidance, Invitation, Update
from paramcast.methods.cmda_ot.pseudo import class_distances
from paramcast.methods.cmda_ot.transport import TransportSettings, transport


class Client:
    """Client with one source of a federation.

    Args:
        name: Its name.
        X: (n, D) float64, its samples.
        labels: (n,) int, their classes.
        alignment: See `Aligner`.
        transport: Settings of the transport to the target.
        training: Settings of the local training.
        steps: Steps of local training in a round.
        seed: Seed of all random draws.
    """

    def __init__(
        self,
        name: str,
        X: np.ndarray,
        labels: np.ndarray,
        *,
        alignment: Alignment,
        transport: TransportSettings,
        training: model.TrainSettings,
        steps: int,
        seed: int,
    ) -> None:
        self.name = name
        self._raw, self._labels, self._alignment = X, labels, alignment
        self._source = Aligner(alignment, X)(X)
        self._settings, self._training = transport, training
        self._steps, self._seed = steps, seed

    def evidence(self, invitation: Invitation) -> Evidence:
        """Transport the source to the target, and return votes for the target's classes.

        There are two votes: one of the plan, and one of a model of the source before the transport. The
        pseudo-labels later decide between the source and the transported source, so they must not come from
        the plan alone.
        """
        rng = np.random.default_rng(self._seed)
        classes, common = invitation.classes, CommonScale(invitation.target)
        self._target = Aligner(self._alignment, invitation.target)(invitation.target)
        self._moved, plan, cost = transport(
            common(self._raw),
            self._labels,
            common(invitation.target),
            self._target,
            classes,
            self._settings,
            rng,
        )
        start = model.initial(self._target.shape[1], classes, self._training.hidden, self._seed)
        self._models = [self._trained(start, X, 4 * self._steps, 0) for X in (self._source, self._moved)]
        said = model.probabilities(self._models[0], self._target)
        present, distances = class_distances(
            self._source, self._labels, self._target, invitation.clusters, classes, rng
        )
        return Evidence(self.name, present, distances, plan, said, cost, len(self._labels))

    def choose(self, guidance: Guidance) -> None:
        """Keep the transported source only if it makes a better model of the pseudo-labeled subset."""
        subset = self._target[guidance.rows]
        scores = [model.accuracy(each, subset, guidance.labels) for each in self._models]
        self._transported = scores[1] > scores[0]

    def update(self, message: Global) -> Update:
        """Train the global model on the source that was chosen."""
        X = self._moved if self._transported else self._source
        weights = self._trained(message.weights, X, self._steps, message.round)
        return Update(self.name, weights, self._transported)

    def _trained(self, weights: Arrays, X: np.ndarray, steps: int, round_: int) -> Arrays:
        seed = self._seed * 1000 + round_
        return model.train(weights, X, self._labels, steps, self._training, seed)
