"""A module that a server can adapt: the user's net, its adapters, hypernetworks and describer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from paramcast.adapters import AdaptedModule, Basis, build_adapter, dump_config
from paramcast.errors import InputError
from paramcast.hypernet import ContextInputs, Hypernetwork, HypernetworkConfig
from paramcast.protocol import AdaptRequest
from paramcast.protocol.messages import padded
from paramcast.training import examples
from paramcast.training.describers import BesideDescriber, Describer, make_describer
from paramcast.training.devices import DeviceData
from paramcast.training.scores import Loss, Score
from paramcast.training.start import Start, Started, starting
from paramcast.training.uplink import Uplink, as_received

if TYPE_CHECKING:
    from paramcast.training.report import Report

CONDITIONS = ("support", "constant", "truth")
"""Inputs of a hypernetwork: the support set, nothing (a control), or the true domain (the oracle)."""

UPLINK_DIM = 32
"""Number of columns of the uplink, unless there are fewer features."""

ROWS = 256
"""Number of examples in a batch outside of training."""

_NO_QUERIES = 1  # columns of a request's queries; there are no rows


class ModelError(InputError):
    """A folder holds no model that this version can read."""


class NotFittedError(InputError):
    """The model has to be fitted first."""

    def __init__(self) -> None:
        super().__init__(
            "the model has no hypernetwork yet; call fit(train_devices, validation_devices) first"
        )


@dataclass
class Fitted:
    """The parts that training adds to the module.

    Attributes:
        uplink: Projection of an example's features to the numbers that are sent.
        hypernets: Condition -> hypernetwork; the hypernetwork of 'support' serves devices.
        adapted: Condition -> the module under that hypernetwork's updates.
        example: A few inputs of the module, for tracing; a saved folder holds artificial ones if possible.
        domains: Names of the true domains that the oracle knows; empty where domains are numbers or unknown.
        truth_dim: Length of the vector of a true domain; 0 where it is unknown.
        start: The free baseline that the device applies before the update; None: no baseline.
        summary: Results on validation devices, and the verdict as text.
    """

    uplink: Uplink
    hypernets: dict[str, Hypernetwork]
    adapted: dict[str, AdaptedModule]
    example: Any
    domains: tuple[str, ...] = ()
    truth_dim: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    start: Start | None = None


class AdaptableModel:
    """A torch module with all parts that adapt it; see `adaptable`.

    Attributes:
        net: The user's module, not a copy. Only training the base changes its weights.
    """

    def __init__(
        self,
        net: nn.Module,
        target_modules: Sequence[str],
        adapter: Any = None,
        context: str | nn.Module | Describer | None = None,
        loss: str | Loss | None = None,
        score: str | Score | Callable[[Any, Any], float] | None = None,
    ) -> None:
        """Make the model; call `adaptable` instead."""
        self.net = net
        self.target_modules = (target_modules,) if isinstance(target_modules, str) else tuple(target_modules)
        self.adapter_config = Basis() if adapter is None else adapter
        self.describer = make_describer(context)
        self.loss, self.score = loss, score
        self._fitted: Fitted | None = None
        self._new_adapted()  # raises now if the targets are wrong

    @property
    def fitted(self) -> Fitted:
        """The parts that training has added.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        if self._fitted is None:
            raise NotFittedError
        return self._fitted

    @property
    def hypernet(self) -> Hypernetwork:
        """The hypernetwork that serves devices."""
        return self.fitted.hypernets["support"]

    @property
    def adapted(self) -> AdaptedModule:
        """The module under updates of the hypernetwork that serves devices."""
        return self.fitted.adapted["support"]

    def fit(
        self,
        train_devices: Sequence[DeviceData],
        validation_devices: Sequence[DeviceData],
        steps: int | None = None,
        **options: Any,
    ) -> AdaptableModel:
        """Train the hypernetwork, and with `base=True` the module itself; see `training.trainer.fit`.

        Args:
            train_devices: Devices that the hypernetwork learns from.
            validation_devices: Other devices, which select the training step and calibrate the gain
                predictor.
            steps: Optimizer steps of each hypernetwork; None: 400.
            options: `base`, `augment`, `start`, `support`, `folds`, `rate`, `seed`, `device`, `precision` and
                `folder` of `training.trainer.fit`.

        Returns:
            The model itself.
        """
        from paramcast.training.trainer import fit

        fit(self, train_devices, validation_devices, steps=steps, **options)
        return self

    def evaluate(
        self, test_devices: Sequence[DeviceData], support: int | Sequence[int] = 8, *, seed: int = 0
    ) -> Report:
        """Evaluate on devices that training has not seen, with all controls; see `training.evaluation`."""
        from paramcast.training.evaluation import evaluate

        return evaluate(self, test_devices, support, seed=seed)

    def features(self, inputs: Any) -> np.ndarray:
        """Compute the features of examples with the describer: (N, F) or (N, T, F) float32."""
        device = device_of(self.net)
        parts = []
        self.net.eval()
        with torch.no_grad():
            for start in range(0, examples.count(inputs), ROWS):
                rows = examples.moved(examples.take(inputs, slice(start, start + ROWS)), device)
                parts.append(self.describer.run(self.net, rows)[1].float().cpu().numpy())
        return np.concatenate(parts)

    def context_of(self, device: DeviceData, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Return features of a device's examples: the device's own context, else the describer's features."""
        if device.context is not None:
            return np.asarray(device.context[rows])
        return self.features(examples.take(device.inputs, rows))

    def inputs(
        self,
        contexts: Sequence[np.ndarray],
        truths: Sequence[np.ndarray] | None = None,
        training: bool = False,
    ) -> ContextInputs:
        """Make the hypernetwork's inputs for B devices.

        Args:
            contexts: (K, F) or (K, T, F) of each device's support set; K may differ.
            truths: (R,) true domain of each device; None if unknown.
            training: Whether to include the parts of examples that devices do not send.
        """
        uplink = self.fitted.uplink
        sent, whole = zip(*(sent_and_whole(context) for context in contexts), strict=True)
        width = uplink.matrix.shape[1]
        anchors, mask = padded([as_received(uplink(rows)) for rows in sent], width)
        at = next(self.hypernet.parameters()).device
        return ContextInputs(
            torch.from_numpy(anchors).to(at),
            torch.from_numpy(mask).to(at),
            torch.zeros(len(contexts), 0, _NO_QUERIES, device=at),
            torch.zeros(len(contexts), 0, dtype=torch.bool, device=at),
            torch.from_numpy(padded([uplink(rows) for rows in whole], width)[0]).to(at) if training else None,
            None if truths is None else torch.from_numpy(np.stack(truths)).to(at),
        )

    def request(self, device: str, context: np.ndarray, model: str, sequence: int = 0) -> AdaptRequest:
        """Make the request of a device; its `encode()` returns the bytes.

        Args:
            device: The device's id.
            context: (K, F) or (K, T, F) features of the device's K support examples.
            model: Value of `model` in the artifact's manifests: 64 hex digits.
            sequence: Sequence number of the update that the device runs; 0 for the base.
        """
        anchors = self.fitted.uplink(sent_and_whole(context)[0])
        none = np.empty((0, _NO_QUERIES), np.float32)
        return AdaptRequest(device, model, sequence, anchors, none, np.empty(0, np.int64))

    def update(self, support: Any) -> dict[str, np.ndarray]:
        """Generate the update tensors for a device from its support examples.

        Args:
            support: Inputs of the module with K examples.
        """
        tree = examples.as_tensors(support, "support")
        values = self.hypernet.generate(self.inputs([self.features(tree)]))
        values |= starting(self.fitted.start, self.net, [examples.moved(tree, device_of(self.net))])
        return {name: value[0].cpu().numpy() for name, value in values.items()}

    def __call__(self, inputs: Any, update: Mapping[str, Any] | None = None) -> Any:
        """Run the module on inputs, under an update if there is one."""
        values = None if update is None else {k: torch.as_tensor(v) for k, v in update.items()}
        with torch.no_grad():
            return self.adapted(examples.as_tensors(inputs, "inputs"), values)

    def fingerprint(self) -> str:
        """Compute a hash, 64 hex digits, of the base, the adapter's constants, the uplink and the options.

        Two folders hold the same model if their fingerprints are equal. Updates do not refer to this hash:
        they refer to `model` of an artifact's manifests, which covers the artifact's graphs.
        """
        digest = hashlib.sha256(json.dumps(self._config()).encode())
        adapter = self.hypernet.adapter
        tensors = {f"base.{name}": value for name, value in self.net.state_dict().items()}
        for name, value in sorted(tensors.items()):
            data = value.detach().cpu().contiguous()
            digest.update(
                name.encode() + data.view(torch.uint8).numpy().tobytes()
                if data.dim()
                else bytes(name, "utf8") + repr(data.item()).encode()
            )
        for name, array in sorted(adapter.constants().items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        digest.update(self.fitted.uplink.mean.tobytes() + self.fitted.uplink.matrix.tobytes())
        return digest.hexdigest()

    def save(self, folder: Path | str) -> None:
        """Write the model to a folder; `paramcast.load` reads it."""
        from paramcast.training.folder import save

        save(self, folder)

    def export(self, out: Path | str, key: Path | str | None = None, **options: Any) -> Path:
        """Write the artifact, which needs no torch: `out/device` for devices, `out/server` for the server.

        Args:
            out: The artifact's folder.
            key: File of the signing key, made if it does not exist; None: devices trust the first server
                they meet.
            options: `labels` (names of the outputs), `task` and `probe` (an example that the artifact may
                contain); see `training.export`.
        """
        from paramcast.training.export import export

        return export(self, out, key=key, **options)

    def _new_adapted(self) -> AdaptedModule:
        return AdaptedModule(self.net, build_adapter(self.adapter_config, self.net, self.target_modules))

    def begin(self, uplink: Uplink, example: Any, truth_dim: int, domains: tuple[str, ...] = ()) -> Fitted:
        """Make untrained hypernetworks, one for each condition that can be trained."""
        conditions = [c for c in CONDITIONS if truth_dim or c != "truth"]
        adapted = {condition: self._new_adapted() for condition in conditions}
        hypernets = {
            condition: Hypernetwork(
                HypernetworkConfig(
                    condition=condition,  # type: ignore[arg-type]
                    image_dim=uplink.matrix.shape[1],
                    text_dim=_NO_QUERIES,
                    truth_dim=truth_dim,
                ),
                module.adapter,
            ).to(device_of(self.net))
            for condition, module in adapted.items()
        }
        self._fitted = Fitted(uplink, hypernets, adapted, example, domains, truth_dim)
        return self._fitted

    def begin_with_start(self) -> None:
        """Set the start of updates to the baseline that `summary` names as the start, if there is one."""
        from paramcast.training.free import free_baseline

        fitted, free = self.fitted, self.fitted.summary.get("start")
        if not free or not free["strength"]:
            return
        method = free_baseline(self, free["name"], free.get("prior"), free.get("strengths"))
        fitted.start = Start.of(self.net, method, free["strength"])
        if fitted.start is not None:
            plain = fitted.adapted["support"]
            names = fitted.start.names(self.net)
            started = AdaptedModule(self.net, Started(plain.adapter, self.net, names))
            started.mode = "vmap" if plain.mode != "loop" else "loop"
            fitted.adapted["support"] = started

    def _config(self) -> dict[str, Any]:
        return {
            "target_modules": list(self.target_modules),
            "adapter": dump_config(self.adapter_config),
            "context": self.describer.config(),
        }

    def _modules(self) -> dict[str, nn.Module]:
        beside = {"describer": self.describer.describe} if isinstance(self.describer, BesideDescriber) else {}
        return {"base": self.net, **beside} | {f"hypernet-{c}": h for c, h in self.fitted.hypernets.items()}


def adaptable(
    net: nn.Module,
    target_modules: Sequence[str],
    adapter: Any = None,
    context: str | nn.Module | None = None,
    loss: str | Loss | None = None,
    score: str | Score | Callable[[Any, Any], float] | None = None,
) -> AdaptableModel:
    """Make a torch module adaptable: choose the parameters that an update may change, and the adapter type.

    Args:
        net: Any module. It is not changed by this call.
        target_modules: Shell-style patterns of module or parameter names, such as `["head",
            "blocks.*.norm"]`; `"!pattern"` leaves names out.
        adapter: `Basis(rank=64)` (the default), `LowRank`, `Residual`, `Full`, `NormStatistics`, or a tuple
            of them.
        context: The features of an example for the server: the dotted name of a submodule whose output is
            used, or a torch module that is called like `net`. None: statistics of the inputs, the inputs of
            the last layer, and the outputs.
        loss: (outputs, labels) -> scalar tensor, or a name of `training.scores.LOSSES`; None: by the labels.
        score: (outputs, labels) -> number, a `Score`, or a name of `training.scores.SCORES`; None: by the
            labels.

    Raises:
        InputError: A pattern matches nothing that can be adapted, or the context cannot be exported.
    """
    return AdaptableModel(net, target_modules, adapter, context, loss, score)


def sent_and_whole(context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each example's middle part, which is sent, and the mean of its parts: (N, F) float32 each."""
    parts = context.astype(np.float32).reshape(len(context), -1, context.shape[-1])
    return parts[:, parts.shape[1] // 2], parts.mean(1)


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """Switch off `requires_grad` of all parameters while the block runs."""
    needed = [parameter.requires_grad for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, before in zip(module.parameters(), needed, strict=True):
            parameter.requires_grad_(before)


def device_of(module: nn.Module) -> torch.device:
    """Return the torch device that a module lies on."""
    return next((tensor.device for tensor in [*module.parameters(), *module.buffers()]), torch.device("cpu"))
