"""Server of a federation: holds the unlabeled target, asks clients, averages their answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from paramcast.methods.cmda_ot import model
from paramcast.methods.cmda_ot.alignment import Aligner, Alignment, CommonScale
from paramcast.methods.cmda_ot.errors import FederationError
from paramcast.methods.cmda_ot.messages import Arrays, Evidence, Global, Guidance, Invitation, Update
from paramcast.methods.cmda_ot.pseudo import beliefs, guidance, spectral_clusters

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class AnyClient(Protocol):
    """Interface of a client; it may be in this process or behind a network."""

    name: str

    def evidence(self, invitation: Invitation) -> Evidence:
        """Return the votes of its source for the classes of the target."""

    def choose(self, guidance: Guidance) -> None:
        """Decide whether the transported source is kept."""

    def update(self, message: Global) -> Update:
        """Run one round of local training."""


@dataclass(frozen=True)
class ServerSettings:
    """Settings of the server.

    Attributes:
        clusters_per_class: Spectral clusters of the target for each class.
        cluster_weight: In [0, 1], see `pseudo.beliefs`.
        subset_share: In (0, 1], see `pseudo.guidance`.
        rounds: Rounds of training.
        tune_steps: Optimizer steps on the pseudo-labeled subset after each averaging; 0 for none.
        final_steps: Optimizer steps on the pseudo-labels of the whole target, at the end; 0 for none.
    """

    clusters_per_class: int = 3
    cluster_weight: float = 0.0
    subset_share: float = 0.5
    rounds: int = 10
    tune_steps: int = 16
    final_steps: int = 512


@dataclass(frozen=True)
class LeftOut:
    """A client that failed: the step (`evidence`, `choose`, `round 1`, ...), and the reason."""

    step: str
    client: str
    reason: str


class Server:
    """Runs a federation over clients.

    A client that raises, or answers with numbers that are not finite or of a wrong shape, is left out of that
    step, which goes on with the others. A client that fails in a round is asked again in the next round. A
    client that fails before the rounds is not asked again.

    Args:
        target: (N, D) float64, before alignment.
        alignment: See `Aligner`.
        classes: C.
        settings: Settings of the server.
        training: Settings of the fine-tuning on pseudo-labels.
        seed: Seed of all random draws.
        at_once: Number of clients that are asked at the same time.
    """

    def __init__(
        self,
        target: np.ndarray,
        alignment: Alignment,
        classes: int,
        settings: ServerSettings,
        training: model.TrainSettings,
        seed: int,
        at_once: int = 1,
    ) -> None:
        self.settings, self._training, self._seed = settings, training, seed
        self._at_once = at_once
        self._target = Aligner(alignment, target)(target)
        # Clusters without weight are not computed.
        count = settings.clusters_per_class * classes if settings.cluster_weight else 1
        clusters = spectral_clusters(CommonScale(target)(target), count, np.random.default_rng(seed))
        self.invitation = Invitation(target, clusters, classes)
        self.left_out: list[LeftOut] = []
        self.transported: dict[str, bool] = {}
        self.scores: dict[str, float] = {}

    def run(self, clients: Sequence[AnyClient]) -> Arrays:
        """Run the whole federation: evidence, choice, rounds, and a last fine-tuning.

        Returns:
            The final weights.

        Raises:
            FederationError: In some step no client was left.
        """
        answers = self._ask(
            "evidence", clients, lambda each: each.evidence(self.invitation), self._check_evidence
        )
        evidence = list(answers.values())
        self.guidance = guidance(self._believed(evidence, None), self.settings.subset_share)
        joined = [each for each in clients if each.name in answers]
        chosen = self._ask("choose", joined, lambda each: each.choose(self.guidance), lambda _: None)
        joined = [each for each in joined if each.name in chosen]
        features = self.invitation.target.shape[1]
        weights = model.initial(features, self.invitation.classes, self._training.hidden, self._seed)
        for number in range(1, self.settings.rounds + 1):
            weights = self._round(number, weights, joined)
        if not self.settings.final_steps:
            return weights
        # This trains on the whole target without dropout, since exactly these samples will be predicted.
        belief = self._believed(evidence, model.probabilities(weights, self._target))
        everything, training = guidance(belief, 1.0).labels, replace(self._training, dropout=0.0)
        steps = self.settings.final_steps
        return model.train(weights, self._target, everything, steps, training, self._seed * 1000)

    def _believed(self, evidence: Sequence[Evidence], together: np.ndarray | None) -> np.ndarray:
        clusters, weight = self.invitation.clusters, self.settings.cluster_weight
        return beliefs(evidence, clusters, weight, self._target, together)

    def _round(self, number: int, weights: Arrays, clients: Sequence[AnyClient]) -> Arrays:
        message = Global(number, weights)
        updates = self._ask(
            f"round {number}",
            clients,
            lambda each: each.update(message),
            lambda update: _check_weights(update.weights, weights),
        )
        self.transported.update({name: update.transported for name, update in updates.items()})
        subset = self._target[self.guidance.rows]
        self.scores = {
            name: model.accuracy(update.weights, subset, self.guidance.labels)
            for name, update in updates.items()
        }
        # A small constant is added, so that clients that all score 0 are averaged evenly.
        shares = np.array(list(self.scores.values())) + 1e-6
        averaged = model.average([update.weights for update in updates.values()], shares / shares.sum())
        return model.train(
            averaged,
            subset,
            self.guidance.labels,
            self.settings.tune_steps,
            self._training,
            self._seed * 1000 + number,
        )

    def _ask(
        self,
        step: str,
        clients: Sequence[AnyClient],
        call: Callable[[AnyClient], Answer],
        check: Callable[[Answer], None],
    ) -> dict[str, Answer]:
        """Ask every client; leave out the clients that fail with any exception."""

        def attempt(client: AnyClient) -> Answer | Exception:
            try:
                answer = call(client)
                check(answer)
            except Exception as error:
                return error
            return answer

        with ThreadPoolExecutor(self._at_once) as pool:
            outcomes = dict(zip((each.name for each in clients), pool.map(attempt, clients), strict=True))
        answers: dict[str, Answer] = {}
        for name, outcome in outcomes.items():
            if isinstance(outcome, Exception):
                _log.warning("%s: client %s is left out: %s", step, name, outcome)
                self.left_out.append(LeftOut(step, name, str(outcome) or type(outcome).__name__))
            else:
                answers[name] = outcome
        if not answers:
            reasons = "; ".join(
                f"{each.client}: {each.reason}" for each in self.left_out if each.step == step
            )
            raise FederationError(f"{step}: no client is left ({reasons})")
        return answers

    def _check_evidence(self, answer: Evidence) -> None:
        samples, classes = len(self.invitation.target), self.invitation.classes
        clusters = self.invitation.clusters.max() + 1
        shapes = {
            "present": (classes,),
            "distances": (classes, clusters),
            "plan": (samples, classes),
            "model": (samples, classes),
            "cost": (),
            "samples": (),
        }
        for field in fields(answer):
            if field.name in shapes:
                _check_array(field.name, np.asarray(getattr(answer, field.name)), shapes[field.name])
        if answer.samples < 1:
            raise ValueError(f"its number of samples is {answer.samples}, less than 1")


def _check_weights(given: Mapping[str, Any], expected: Arrays) -> None:
    if given.keys() != expected.keys():
        raise ValueError(f"it sent weights {sorted(given)} in place of {sorted(expected)}")
    for name, value in given.items():
        _check_array(name, value, expected[name].shape)


def _check_array(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise ValueError(f"its {name} has shape {value.shape}, not {shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"its {name} holds NaN or infinity")
