"""`fedavg`: one model from many devices; `fedavg_ft`: then fine-tuned with the labels of the device.

McMahan et al., "Communication-efficient learning of deep networks from decentralized data"
(arXiv 1602.05629).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.methods.background import TRAINING_DEVICES, Background
from paramcast.methods.base import Method, Predictor, Settings, Support, Traffic
from paramcast.methods.fta import FineTuning
from paramcast.methods.meter import Work, measure
from paramcast.methods.modules import labeled_loss, predictor
from paramcast.methods.support import labeled_of
from paramcast.video.training.arrays import DeviceData

RATES = (1e-4, 1e-3)
SNAPSHOTS = (2, 5, 10)
"""Rounds after which a model is kept; the scores on validation devices choose one."""

_DEVICES_A_ROUND, _LOCAL_STEPS, _CLIPS_A_STEP = 5, 4, 12
_ALL = 1_000_000  # labels: all of them

State = dict[str, Tensor]


class FedAvg(Method):
    """Training in rounds over labeled training devices, from the base model on; all devices get one model."""

    identity: ClassVar[Settings | None] = {"rate": 0.0, "rounds": 0}
    rates: ClassVar[tuple[float, ...]] = RATES

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the local learning rate and of the number of rounds."""
        return [{"rate": rate, "rounds": rounds} for rate in self.rates for rounds in SNAPSHOTS]

    def prepare(self, background: Background) -> None:
        """Train at every rate, and keep a model at every snapshot."""
        super().prepare(background)
        base = _copied(background.frozen)
        self._states: dict[tuple[float, int], State] = {(0.0, 0): base}
        for rate in self.rates:
            self._train(rate, base)

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Take the common model."""
        return predictor(self.background.model.task, self.common(settings), support.samples.bank)

    def common(self, settings: Settings) -> nn.Module:
        """Return the common model after the rounds of these settings."""
        module = self.background.module()
        module.load_state_dict(self._states[float(settings["rate"]), int(settings["rounds"])])
        return module

    def traffic(self, support: Support, settings: Settings) -> Traffic:
        """Return the bytes of a device: the model down and up in each turn, and down once at the end."""
        size = sum(4 * tensor.numel() for tensor in self._states[0.0, 0].values())
        turns = _turns(settings)
        return Traffic(round(turns * size), round((turns + 1) * size), ("gradients",))

    def device_work(self, support: Support, settings: Settings) -> Work:
        """Return the work of a device's turns, measured on the first training device."""
        device, state = self.background.training.devices[0], self._states[0.0, 0]
        turn = measure(lambda: self._local(device, state, self.rates[0], np.random.default_rng(0)))
        return Work(round(_turns(settings) * turn.macs), turn.peak_bytes)

    def _train(self, rate: float, base: State) -> None:
        rng, state = np.random.default_rng(self.background.seed), base
        devices = self.background.training.devices
        for done in range(1, max(SNAPSHOTS) + 1):
            chosen = rng.choice(len(devices), min(_DEVICES_A_ROUND, len(devices)), replace=False)
            found = [self._local(devices[place], state, rate, rng) for place in chosen]
            weights = torch.tensor([count for _, count in found], dtype=torch.float32)
            weights /= weights.sum()
            state = {
                name: sum((w * own[name] for w, (own, _) in zip(weights, found, strict=True)), 0 * value)
                for name, value in state.items()
            }
            if done in SNAPSHOTS:
                self._states[rate, done] = state

    def _local(
        self, device: DeviceData, state: State, rate: float, rng: np.random.Generator
    ) -> tuple[State, int]:
        """Return a device's model after its local steps, and its number of labels, which is its weight."""
        task, bank = self.background.model.task, self.background.training.bank
        module = self.background.module().requires_grad_()
        module.load_state_dict(state)
        optimizer = torch.optim.Adam(module.parameters(), lr=rate)
        for _ in range(_LOCAL_STEPS):
            drawn = rng.choice(len(device.clips), min(_CLIPS_A_STEP, len(device.clips)), replace=False)
            optimizer.zero_grad()
            labeled = labeled_of(task, [device.clips[place] for place in drawn], _ALL)
            labeled_loss(task, module, bank, labeled).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return _copied(module), len(labeled_of(task, device.clips, _ALL).answers)


class FedAvgTuned(FedAvg, FineTuning):
    """The common model, fine-tuned with the device's labels.

    The trials vary the rounds of the common model and the tuned parameters, at one learning rate each.
    """

    identity: ClassVar[Settings | None] = {"of": "head", "rate": 0.0, "rounds": 0}
    rates = RATES[:1]

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the rounds of the common model and of the parameters that are fine-tuned."""
        tuning = FineTuning.grid(self, task)[1::2]
        return [{"rate": one["rate"], "of": one["of"], "rounds": n} for one in tuning for n in (2, 10)]

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Take the common model, and fine-tune it."""
        common = {"rate": self.rates[0] if settings["rounds"] else 0.0, "rounds": settings["rounds"]}
        return self.tuned(self.common(common), support, settings, seed)


def _turns(settings: Settings) -> float:
    """Compute the mean number of rounds that a device takes part in."""
    return int(settings["rounds"]) * _DEVICES_A_ROUND / TRAINING_DEVICES


def _copied(module: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
