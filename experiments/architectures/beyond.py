"""Steps after the export, in a process that cannot import torch: a server, and two devices that adapt.

`python -m experiments.architectures.beyond FOLDER` reads FOLDER/inputs.npz (the leaves of each device's
examples, DEVICE/NUMBER) and FOLDER/artifact, and writes FOLDER/found.npz.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import paramcast as pc
from paramcast.artifact.trees import fill, names

DEVICES = ("one", "two")


def main(folder: Path) -> None:
    """Run two devices, and store their outputs before and after they adapt, and their updates."""
    given = dict(np.load(folder / "inputs.npz"))
    server = pc.Server(folder / "artifact", key=folder / "signing.key")
    found: dict[str, np.ndarray] = {}
    for name in DEVICES:
        device = pc.Device(folder / "artifact", id=name, server=server)
        artifact = device.runtime.artifact
        leaves = [given[f"{name}/{place}"] for place in range(len(list(names(artifact.arguments))))]
        named = dict(zip(names(artifact.arguments), leaves, strict=True))
        x = fill(artifact.arguments, named)
        x = tuple(x) if artifact.call == "positional" else x
        _keep(found, f"{name}/base", device.predict(x))
        device.observe(x)
        package = device.adapt()
        _keep(found, f"{name}/adapted", device.predict(x))
        found |= {f"{name}/update/{key}": value for key, value in package.tensors.items()}
    np.savez(folder / "found.npz", **found)  # type: ignore[arg-type]


def _keep(found: dict[str, np.ndarray], at: str, outputs: Any) -> None:
    """Put the arrays of nested outputs into `found`, numbered in order."""
    if isinstance(outputs, np.ndarray):
        found[f"{at}/{sum(key.startswith(f'{at}/') for key in found)}"] = outputs
        return
    for part in outputs.values() if isinstance(outputs, dict) else outputs or ():
        _keep(found, at, part)


if __name__ == "__main__":
    sys.modules["torch"] = None  # type: ignore[assignment]  # from here on, its import fails
    main(Path(sys.argv[1]))
