"""`paramcast device run ARTIFACT --inputs FILE`: predictions of any module before and after adaptation."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from paramcast.artifact.read import DeviceArtifact
from paramcast.artifact.trees import fill, names, pick
from paramcast.device import Device, ModuleRuntime
from paramcast.errors import InputError, ParamcastError
from paramcast.files import write_json

SHOWN = 10
"""Largest number of examples that are printed."""


def run_module(
    artifact: Path,
    inputs: Path,
    id: str,
    server: str | None,
    support: int,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Predict, observe the first examples, adapt, and predict again.

    Args:
        artifact: The device's half of an artifact, or the artifact.
        inputs: File of NumPy arrays by the names of the model's inputs.
        id: The device's id.
        server: URL of the server; without a server the device stays at its base.
        support: Number of examples to adapt with.
        json_file: File to which all predictions are written.
        options: More arguments of `Device`.

    Raises:
        InputError: The inputs do not fit the model.
    """
    with Device(artifact, id, server, **options) as device:
        model = device.runtime.artifact
        arrays = _arrays(inputs, [spec.name for spec in model.inputs])
        x = _called(model, arrays)
        base = _shown(device.predict(x), device)
        failure = None
        device.observe(_called(model, {name: value[:support] for name, value in arrays.items()}))
        try:
            if server is not None:
                device.adapt()
        except ParamcastError as error:
            failure = error  # the device answers with the parameters that it has
        own = _shown(device.predict(x), device)
        status = device.status
    _print(base, own)
    click.echo(f"{id}: {status['why']}")
    if json_file is not None:
        write_json(json_file, {"device": id, "base": base, "own": own, "status": status})
    if failure is not None:
        raise failure


def _arrays(file: Path, wanted: list[str]) -> dict[str, np.ndarray]:
    """Read the arrays of the model's inputs; where there is one input, its array may have any name."""
    try:
        with np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files} if hasattr(found, "files") else {"": found}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is no file of NumPy arrays (np.savez): {error}") from error
    if len(wanted) == len(arrays) == 1:
        return {wanted[0]: next(iter(arrays.values()))}
    if missing := [name for name in wanted if name not in arrays]:
        raise InputError(
            f"{file} has no array {missing[0]!r}; the model takes {', '.join(wanted)}, "
            f"the file holds {', '.join(arrays) or 'nothing'}"
        )
    return {name: arrays[name] for name in wanted}


def _called(model: DeviceArtifact, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the arrays as the arguments of the model."""
    x = fill(model.arguments, arrays)
    return tuple(x) if model.call == "positional" else x


def _shown(outputs: Any, device: Device) -> list[Any]:
    """Return the printed result of each example: the name or number of its class, or the output numbers."""
    runtime: ModuleRuntime = device.runtime
    tree = runtime.artifact.structure
    found: Mapping[str, np.ndarray] = pick(tree, outputs)
    made = found[next(names(tree))]
    if made.ndim == 2 and made.shape[1] > 1 and made.dtype.kind == "f":
        places = made.argmax(1).tolist()
        labels = device.labels
        return [labels[place] if labels and place < len(labels) else place for place in places]
    rows: list[Any] = np.round(made.astype(np.float64), 4).tolist() if made.ndim else [made.tolist()]
    return rows


def _print(base: list[Any], own: list[Any]) -> None:
    for place, (before, after) in enumerate(zip(base[:SHOWN], own, strict=False), start=1):
        click.echo(f"{place}: {before}" + ("" if before == after else f" -> {after}"))
    changed = sum(before != after for before, after in zip(base, own, strict=True))
    click.echo(f"{changed} of {len(base)} predictions have changed")
