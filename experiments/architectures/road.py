"""All steps of one model: fit, evaluate, save, load, export, a server and devices without torch."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import paramcast as pc
from experiments.architectures.beyond import DEVICES
from experiments.architectures.registry import MODELS, another, rows_of
from paramcast.adapters.checking import difference
from paramcast.adapters.trees import floats_of
from paramcast.artifact.calling import collect
from paramcast.artifact.trace import distance
from paramcast.errors import ParamcastError

TOLERANCE = 1e-4
EXAMPLES = 6
SUPPORT = 2


class RoadError(Exception):
    """A step gave a wrong result."""


def walk(name: str) -> dict[str, Any]:
    """Take one model through all steps.

    Returns:
        A row of the results: `passed`, and for a failure, the step and the reason.
    """
    model = MODELS[name]
    row: dict[str, Any] = {"model": name, "family": model.family, "passed": False, "at": "build"}
    began = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            _walk(model, row, Path(scratch))
        row |= {"passed": True, "at": "end"}
    except Exception as error:  # the row says what it was
        row["error"] = type(error).__name__
        row["reason"] = " ".join(str(error).split())[:600]
        row["ours"] = isinstance(error, ParamcastError)
    row["seconds"] = round(time.perf_counter() - began, 1)
    return row


def loss(outputs: Any, labels: Tensor) -> Tensor:
    """Compute the mean square distance of all outputs of a module from a label."""
    finite = [torch.where(x.isfinite(), x.float(), 0.0) for x in floats_of(outputs)]
    return torch.stack([(x - labels.float().mean()).square().mean() for x in finite]).mean()


def score(outputs: Any, labels: Tensor) -> float:
    """Compute the loss as the score, since there is no task."""
    with torch.no_grad():
        return float(loss(outputs, labels))


def _walk(model: Any, row: dict[str, Any], folder: Path) -> None:
    torch.manual_seed(0)
    net, inputs = model.build()
    net.eval()
    row["parameters"] = sum(p.numel() for p in net.parameters())
    devices = [_device(f"d-{i}", inputs, i) for i in range(7)]
    row["at"] = "adaptable"
    made = pc.adaptable(net, model.targets, pc.Basis(rank=8), loss=loss, score=pc.Score(score, "loss", False))
    row["at"] = "fit"
    made.fit(devices[:3], devices[3:5], steps=2, support=SUPPORT)
    row["mode"] = made.adapted.mode
    row["at"] = "gradient"
    _check_gradient(made, devices)
    row["at"] = "evaluate"
    made.evaluate(devices[5:], support=SUPPORT)
    _let_through(made)
    row["at"] = "mixing"
    _check_rows(made, devices)
    row["at"] = "save and load"
    made.save(folder / "model")
    again, _ = model.build()
    loaded = pc.load(folder / "model", again)
    with torch.no_grad():
        if difference(made(devices[0].inputs), loaded(devices[0].inputs)) > TOLERANCE:
            raise RoadError("the loaded model gives other outputs")
    row["at"] = "export"
    made.export(folder / "artifact", key=folder / "signing.key")
    row["at"] = "devices"
    pair = dict(zip(DEVICES, devices[5:], strict=True))
    found = _beyond(folder, {name: device.inputs for name, device in pair.items()})
    _check_devices(made, pair, found)


def _device(name: str, inputs: Any, seed: int) -> pc.DeviceData:
    given = pytree.tree_map(lambda x: rows_of(x, EXAMPLES), inputs)
    return pc.DeviceData(name, another(given, seed), np.full(EXAMPLES, seed / 7, np.float32))


def _check_gradient(made: pc.AdaptableModel, devices: list[pc.DeviceData]) -> None:
    """Check that a loss of outputs has a gradient at the hypernetwork's heads."""
    contexts = [made.context_of(device) for device in devices[:2]]
    made.hypernet.train()
    values, _ = made.hypernet(made.inputs(contexts))
    outputs = made.adapted.batched([device.inputs for device in devices[:2]], values)
    total = torch.stack([loss(each, d.labels) for each, d in zip(outputs, devices, strict=False)]).sum()
    heads = [p for name, p in made.hypernet.named_parameters() if ".heads." in name]
    found = torch.autograd.grad(total, heads, allow_unused=True)
    made.hypernet.eval()
    if not any(each is not None and bool((each != 0).any()) for each in found):
        raise RoadError("no gradient reaches the hypernetwork")


def _let_through(made: pc.AdaptableModel) -> None:
    """Change the hypernetwork so that it makes large updates, different for different devices."""
    draws = torch.Generator().manual_seed(0)
    gate = made.hypernet.gate
    gate.threshold.fill_(-np.inf)
    with torch.no_grad():
        for name, parameter in made.hypernet.named_parameters():
            if ".heads." in name:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=draws))


def _check_rows(made: pc.AdaptableModel, devices: list[pc.DeviceData]) -> None:
    """Check that two devices in a batch get the same outputs as alone, and that updates have an effect."""
    each = [made.update(device.inputs) for device in devices[5:]]
    values = {key: torch.stack([torch.from_numpy(own[key]) for own in each]) for key in each[0]}
    with torch.no_grad():
        together = made.adapted.batched([device.inputs for device in devices[5:]], values)
    for device, own, found in zip(devices[5:], each, together, strict=True):
        alone = made(device.inputs, own)
        if (off := difference(alone, found)) > _tolerance(made):
            raise RoadError(f"a device in a batch is off by {off:.2g} ({made.adapted.mode})")
        if difference(alone, made(device.inputs)) < 10 * TOLERANCE:
            raise RoadError("an update has no effect")


def _beyond(folder: Path, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    leaves = {
        f"{name}/{place}": (leaf.float() if leaf.is_floating_point() else leaf).numpy()
        for name, tree in inputs.items()
        for place, leaf in enumerate(pytree.tree_leaves(tree))
    }
    np.savez(folder / "inputs.npz", **leaves)
    command = [sys.executable, "-m", "experiments.architectures.beyond", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RoadError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the child failed")
    return dict(np.load(folder / "found.npz"))


def _check_devices(
    made: pc.AdaptableModel, pair: dict[str, pc.DeviceData], found: dict[str, np.ndarray]
) -> None:
    for name, device in pair.items():
        update = {k.split("/", 2)[2]: v for k, v in found.items() if k.startswith(f"{name}/update/")}
        _check_same(f"{name}/base", made(device.inputs), found, _tolerance(made))
        _check_same(f"{name}/adapted", made(device.inputs, update), found, _tolerance(made))


def _tolerance(made: pc.AdaptableModel) -> float:
    """Return the largest allowed difference between devices and the module, whose dtype may be coarse."""
    return max(
        [TOLERANCE, *(16 * torch.finfo(p.dtype).eps for p in made.net.parameters() if p.is_floating_point())]
    )


def _check_same(at: str, outputs: Any, found: dict[str, np.ndarray], tolerance: float) -> None:
    wanted: dict[str, Tensor] = {}
    collect(outputs, "", wanted)
    for place, (name, tensor) in enumerate(wanted.items()):
        if (off := distance(tensor.numpy(), found[f"{at}/{place}"])) > tolerance:
            raise RoadError(f"{at}: output {name} of the device is off by {off:.2g} of its size")
