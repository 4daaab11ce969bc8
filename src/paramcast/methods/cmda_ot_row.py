"""`cmda_ot`: clients move their labeled features to the device's features, on which a new head is trained.

CMDA-OT (arXiv 2404.06599, `methods.cmda_ot`): the clients are training devices, the target is the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.errors import InputError
from paramcast.methods.background import Background
from paramcast.methods.base import Method, Predictor, Settings, Support, Traffic
from paramcast.methods.cmda_ot import CMDAOT
from paramcast.methods.cmda_ot.client import Client
from paramcast.methods.cmda_ot.codec import encode
from paramcast.methods.cmda_ot.messages import Evidence, Global, Guidance, Invitation, Update
from paramcast.methods.cmda_ot.transport import TransportSettings
from paramcast.methods.meter import Work
from paramcast.methods.modules import fused
from paramcast.video.tasks.base import Asked
from paramcast.video.training.bank import Bank

CLIENTS = 8
"""Training devices that take part for each device."""

ANSWERS = 20
"""Number of frequent answers that are the classes. A class-regularized plan needs samples of each class."""

DIRECTIONS = 64
"""Number of principal directions of the head's input. All computations use these coordinates."""

_SMALL: dict[str, Any] = {
    "clusters_per_class": 1,
    "rounds": 3,
    "local_steps": 8,
    "tune_steps": 8,
    "final_steps": 64,
    "hidden": 64,
}  # options of `CMDAOT` with which an adaptation takes seconds of one core
_FLOAT64 = 8


class CmdaOt(Method):
    """p'(a) = p(C) ((1 - weight) p(a | C) + weight q(a)) for the most frequent answers C.

    The other answers keep their probabilities. p is of the base model, q is of CMDA-OT. The cost includes the
    work of all clients for this device: every client moves its source to this target, and takes its turns in
    the rounds.
    """

    tasks = ("qa",)
    identity: ClassVar[Settings | None] = {"alignment": "none", "weight": 0.0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the scaling of features on each side, and of the weight of the new head.

        Each client and the target scale their features by themselves. Weight 1 is CMDA-OT alone.
        """
        return [{"alignment": own, "weight": w} for own in ("none", "quantiles") for w in (0.1, 0.3, 1.0)]

    def prepare(self, background: Background) -> None:
        """Compute the principal directions of training clips, and the sources of the clients.

        Raises:
            InputError: The training devices have answers of fewer than two classes.
        """
        super().prepare(background)
        reference, samples = background.reference, background.training
        seen = self._fused(reference.bank, reference.asked)
        self._mean = seen.mean(0)
        self._directions = torch.linalg.svd(seen - self._mean, full_matrices=False)[2][:DIRECTIONS].T
        self._sources = []
        count = min(CLIENTS, len(samples.devices))
        for place in np.linspace(0, len(samples.devices) - 1, count).round().astype(int):
            items = np.concatenate([clip.items for clip in samples.devices[place].clips])
            items = items[(items[:, 2] >= 0) & (items[:, 2] < ANSWERS)]
            if len(items):
                asked = Asked(items[:, 0], items[:, 1], items[:, 3:])
                self._sources.append((self._features(samples.bank, asked), items[:, 2]))
        self._classes = np.unique([answer for _, answers in self._sources for answer in answers])
        if len(self._classes) < 2:
            raise InputError(
                f"cmda_ot needs training devices with two of the {ANSWERS} commonest answers, here "
                f"they have {len(self._classes)}: leave out cmda_ot, or train on more clips with "
                "questions"
            )

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Run the federation over the clients, in this process."""
        model = self._model(settings, seed)
        bank, weight = support.samples.bank, float(settings["weight"])
        model.federate(self._features(bank, support.asked), self._classes, self._clients(model))
        head = cast(nn.Linear, self.background.frozen.head)
        classes = torch.from_numpy(self._classes)

        def predict(asked: Asked) -> Tensor:
            z = self._fused(bank, asked)
            own = torch.from_numpy(model.predict_proba(self._project(z))).float()
            with torch.no_grad():
                logits: Tensor = head(z)
                before = logits[:, classes].log_softmax(-1)
                after = ((1 - weight) * before.exp() + weight * own).clamp(min=1e-30).log()
                return logits.index_add(1, classes, after - before)

        return predict

    def traffic(self, support: Support, settings: Settings) -> Traffic:
        """Return the bytes of the messages of a real run, of the device and of all its clients together."""
        model = self._model(settings, 0)
        clients = [_Overheard(client) for client in self._clients(model)]
        target = self._features(support.samples.bank, support.asked)
        model.federate(target, self._classes, clients)
        up = target.nbytes + sum(client.up for client in clients)
        down = _size(Global(0, model.weights_)) + sum(client.down for client in clients)
        return Traffic(up, down, ("features", "gradients"))

    def device_work(self, support: Support, settings: Settings) -> Work:
        """Compute the cost of the clients' plans, which use no torch operation.

        The cost assumes that every plan takes all of its iterations.
        """
        plans, target = TransportSettings(), len(support.asked.texts)
        dims, most = self._directions.shape[1], max(len(X) for X, _ in self._sources)
        macs = 0
        for X, _ in self._sources:
            pairs = len(X) * target
            macs += pairs * 2 * plans.inner * (plans.refinements + plans.iterations)
            macs += pairs * dims * 2 * (plans.refinements + 1)  # distances and images
            macs += plans.refinements * dims**2 * (3 * len(X) + dims)  # the linear maps
        return Work(macs, 3 * _FLOAT64 * most * target)  # cost, kernel and plan

    def _model(self, settings: Settings, seed: int) -> CMDAOT:
        small = {"alignment": settings["alignment"], **_SMALL}
        return CMDAOT(**small, random_state=seed % 2**16)  # bounded, since CMDAOT multiplies it

    def _clients(self, model: CMDAOT) -> list[Client]:
        return [
            model.client(f"client {number}", X, np.searchsorted(self._classes, answers), number)
            for number, (X, answers) in enumerate(self._sources, start=1)
        ]

    def _fused(self, bank: Bank, asked: Asked) -> Tensor:
        with torch.no_grad():
            return fused(self.background.model.task, self.background.frozen, bank, asked)

    def _project(self, z: Tensor) -> np.ndarray:
        """Project (N, W) -> (N, DIRECTIONS) float64."""
        projected: np.ndarray = ((z - self._mean) @ self._directions).double().numpy()
        return projected

    def _features(self, bank: Bank, asked: Asked) -> np.ndarray:
        return self._project(self._fused(bank, asked))


class _Overheard:
    """A client that counts the bytes of the messages that it sends and receives."""

    def __init__(self, client: Client) -> None:
        self.name, self._client = client.name, client
        self.up = self.down = 0

    def evidence(self, invitation: Invitation) -> Evidence:
        answer = self._client.evidence(invitation)
        self._count(invitation, answer)
        return answer

    def choose(self, guidance: Guidance) -> None:
        self._client.choose(guidance)
        self._count(guidance)

    def update(self, message: Global) -> Update:
        answer = self._client.update(message)
        self._count(message, answer)
        return answer

    def _count(self, sent: object, answer: object | None = None) -> None:
        self.down += _size(sent)
        self.up += 0 if answer is None else _size(answer)


def _size(message: object) -> int:
    return len(encode(message)[0])
