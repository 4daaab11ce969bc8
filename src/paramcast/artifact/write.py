"""Writes the exported folder: `device/`, which any device runs, and `server/`, which any server serves."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from paramcast.artifact.calling import Inputs, Sizes, Watcher, collect, sample_rows
from paramcast.artifact.effect import choose
from paramcast.artifact.errors import ExportError
from paramcast.artifact.hypernetwork_graph import hypernetwork_graph
from paramcast.artifact.manifest import CONTEXT_FILE, MODEL_FILE
from paramcast.artifact.read import (
    FORMAT,
    KIND,
    DeviceArtifact,
    changed_targets,
    model_digest,
    read_device,
)
from paramcast.artifact.server_read import OnnxHypernetwork, ServerSide
from paramcast.artifact.server_write import write_server_side
from paramcast.artifact.trace import (
    CONTEXT,
    IR_VERSION,
    OPSET,
    TOLERANCE,
    Traced,
    distance,
    session,
    trace,
)
from paramcast.files import write_json

MAX_TASK = 32


class AdapterLike(Protocol):
    """Interface of an adapter for the export; see `paramcast.adapters.base.Adapter`."""

    name: str

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of an update's tensors."""

    @property
    def targets(self) -> Mapping[str, Tensor]:
        """Tensors that an update may change, by name."""

    @property
    def kinds(self) -> Mapping[str, tuple[str, ...]]:
        """Kinds of change of each target, in order."""

    def constants(self) -> dict[str, np.ndarray]:
        """Return the constants that are stored on the device."""

    def probe_values(self, seed: int = 0, size: float = 1.0) -> dict[str, Tensor]:
        """Return random tensors of an update."""


class AdaptedLike(Protocol):
    """A module under updates; see `paramcast.adapters.AdaptedModule`."""

    @property
    def replica(self) -> nn.Module:
        """A copy of the module that shares its tensors."""

    @property
    def adapter(self) -> Any:
        """An `AdapterLike`."""

    def __call__(self, inputs: Any, values: Mapping[str, Tensor] | None = None) -> Any:
        """Run the module under an update."""


class UplinkLike(Protocol):
    """Projection of the features that a device sends; see `paramcast.training.uplink.Uplink`."""

    @property
    def mean(self) -> np.ndarray:
        """Mean of the features, (F,) float32."""

    @property
    def matrix(self) -> np.ndarray:
        """Matrix of the projection, (F, U) float32."""


def export_device(
    adapted: AdaptedLike,
    describer: str | Watcher | nn.Module,
    uplink: UplinkLike,
    example_inputs: Inputs,
    out: Path | str,
    *,
    task: str = "module",
    labels: Sequence[str] | None = None,
    public_key: str | None = None,
    sizes: Sizes | None = None,
) -> str:
    """Write the folder `device` of an artifact atomically; an existing folder is replaced.

    The graph is compared with the module on the examples, for the base and under an update.

    Args:
        adapted: The module and its adapter.
        describer: Source of the features: a submodule whose output is (N, F), an object that watches the
            module's run, or a separate torch module, which becomes `context.onnx`.
        uplink: Projection of the features that a device sends.
        example_inputs: Real examples, at least one; the first example is stored as the probe.
        out: The artifact.
        task: The user's name for the task of the model: 1 to 32 characters.
        labels: Names of the classes.
        public_key: Hex digits of the server's key; None: the device takes the key at the first contact.
        sizes: Further axes of free length: input -> axis -> a name for its length.

    Returns:
        The model's sha256, 64 hex digits; see `paramcast.artifact.read.model_digest`.

    Raises:
        ExportError: No graph gives the module's outputs, an argument is unsuitable, or `out` exists and is no
            artifact.
    """
    out = Path(out)
    _check_target(out)
    _check_task(task)
    adapter: AdapterLike = adapted.adapter
    watcher = None if isinstance(describer, nn.Module) else describer
    model = trace(adapted.replica, example_inputs, adapter.targets, watcher, sizes=sizes)
    files = {MODEL_FILE: model.graph}
    context, where = model.context, MODEL_FILE
    if isinstance(describer, nn.Module):
        beside = trace(describer, example_inputs, {}, sizes=sizes, names_of=adapted.replica)
        if len(beside.outputs) != 1:
            raise ExportError(f"the context must be one tensor; the describer gives {len(beside.outputs)}")
        files[CONTEXT_FILE], context, where = beside.graph, beside.outputs[0], CONTEXT_FILE
    mean, matrix = (np.ascontiguousarray(array, np.float32) for array in (uplink.mean, uplink.matrix))
    if context is None or len(context.shape) not in (2, 3) or context.shape[-1] != len(mean):
        shape = None if context is None else context.shape
        raise ExportError(
            f"the context must be (N, F) or (N, T, F) with F of the uplink, {len(mean)}; it is {shape}"
        )
    base = {name: _array(value) for name, value in adapter.targets.items()}
    files |= {
        "base.safetensors": save(base),
        "adapter.safetensors": save({name: _array(value) for name, value in adapter.constants().items()}),
        "uplink.safetensors": save({"mean": mean, "matrix": matrix}),
        "probe.safetensors": save({name: np.ascontiguousarray(x[:1]) for name, x in model.example.items()}),
    }
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "kind": KIND,
        "adapter": adapter.name,
        "task": task,
        "public_key": public_key,
        "files": {name: sha256(data).hexdigest() for name, data in sorted(files.items())},
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "inputs": [spec.to_json() for spec in model.inputs],
        "call": model.call,
        "arguments": model.arguments,
        "outputs": [spec.to_json() for spec in model.outputs],
        "structure": model.structure,
        "labels": None if labels is None else [str(label) for label in labels],
        "parameters": [
            {"name": name, "shape": list(shape), "dtype": "float32"} for name, shape in adapter.shapes.items()
        ],
        "targets": [
            {
                "name": name,
                "shape": list(value.shape),
                "dtype": "float32",
                "input": model.targets[name],
                "kinds": list(adapter.kinds[name]),
            }
            for name, value in base.items()
        ],
        "context": {
            "graph": where,
            "output": context.name if where == CONTEXT_FILE else CONTEXT,
            "dim": len(mean),
            "uplink": matrix.shape[1],
        },
    }
    manifest["model"] = model_digest(manifest)
    with _replacing(out / "device") as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        write_json(folder / "manifest.json", manifest)
        artifact = _try_update(adapted, model, example_inputs, folder)
        updates = [adapter.probe_values(seed=seed) for seed in range(1, 5)]
        effect = choose(artifact, [{n: _array(v) for n, v in each.items()} for each in updates])
        if effect is not None:
            write_json(folder / "manifest.json", manifest | {"effect": effect.to_json()})
    return str(manifest["model"])


def export_hypernetwork(
    hypernetwork: Any,
    out: Path | str,
    *,
    model: str,
    adapter: str,
    shapes: Mapping[str, tuple[int, ...]],
    uplink_dims: tuple[int, int],
    task: str = "module",
) -> None:
    """Write the folder `server` of an artifact atomically; an existing folder is replaced.

    Args:
        hypernetwork: Has `gated(ContextInputs)`; see `paramcast.hypernet.Hypernetwork`.
        out: The artifact.
        model: sha256 that `export_device` returned.
        adapter: The adapter's name.
        shapes: Names and shapes of an update's tensors.
        uplink_dims: Columns of a request's anchors and of its queries.
        task: The user's name for the task of the model: 1 to 32 characters.

    Raises:
        ExportError: The outputs of graph and hypernetwork differ, `task` is too long or empty, or `out`
            exists and is no artifact.
    """
    out = Path(out)
    _check_target(out)
    _check_task(task)
    side = ServerSide(
        model=model,
        adapter=adapter,
        task=task,
        parameters=dict(shapes),
        uplink_dims=uplink_dims,
        graph=hypernetwork_graph(hypernetwork, shapes, uplink_dims),
    )
    with _replacing(out / "server") as folder:
        write_server_side(side, folder.parent)
        OnnxHypernetwork.open(folder.parent)


def _try_update(adapted: AdaptedLike, model: Traced, inputs: Inputs, folder: Path) -> DeviceArtifact:
    """Check that the written folder and the module have the same outputs under an update.

    The targets under the update are computed as a device computes them.

    Returns:
        The written folder, read back.
    """
    artifact = read_device(folder)
    floats = [p for p in adapted.replica.parameters() if p.is_floating_point()]
    if any(p.dtype != torch.float32 for p in floats):
        return artifact  # the module itself is less exact than its graph
    values = adapted.adapter.probe_values(seed=0)
    feed = dict(model.example)
    updated = changed_targets(artifact, {name: _array(value) for name, value in values.items()})
    feed |= {target.input: updated[target.name] for target in artifact.targets}
    graph = session(artifact.files[MODEL_FILE])
    asked = {node.name for node in graph.get_inputs()}
    got = graph.run([spec.name for spec in model.outputs], {n: v for n, v in feed.items() if n in asked})
    device = floats[0].device if floats else torch.device("cpu")
    nested = pytree.tree_map(torch.as_tensor, inputs)
    rows = sample_rows(len(pytree.tree_leaves(nested)[0]))
    wanted: dict[str, Tensor] = {}
    with torch.no_grad():
        collect(adapted(pytree.tree_map(lambda t: t[rows].to(device), nested), values), "", wanted)
    for spec, array, tensor in zip(model.outputs, got, wanted.values(), strict=True):
        if (error := distance(tensor.cpu().numpy(), array)) > TOLERANCE:
            raise ExportError(
                f"under an update the device's output {spec.name} differs by {error:.2g} of its size"
            )
    return artifact


def _array(value: Tensor | np.ndarray) -> np.ndarray:
    array = (
        value.detach().cpu().float().numpy() if isinstance(value, Tensor) else np.asarray(value, np.float32)
    )
    return np.ascontiguousarray(array, np.float32).reshape(array.shape)


def _check_task(task: str) -> None:
    if not 0 < len(task) <= MAX_TASK:
        raise ExportError(f"task must have 1 to {MAX_TASK} characters, not {len(task)}")


def _check_target(out: Path) -> None:
    """Refuse to write to a folder or file that exists and is no artifact."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    halves = [out / name / "manifest.json" for name in ("device", "server")]
    known = {"device", "server"}
    if not out.is_dir() or not any(path.is_file() for path in halves):
        raise ExportError(f"{out} exists and is no artifact; choose another folder")
    for name in known:
        inner = out / name
        if inner.exists() and not (inner / "manifest.json").is_file():
            raise ExportError(f"{inner} exists and is no part of an artifact; choose another folder")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `target` if the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        folder = Path(scratch) / target.name
        folder.mkdir()
        yield folder
        if target.exists():
            target.rename(Path(scratch) / "old")
        try:
            folder.rename(target)
        except OSError:
            if (Path(scratch) / "old").exists():
                (Path(scratch) / "old").rename(target)
            raise
        shutil.rmtree(Path(scratch) / "old", ignore_errors=True)
