"""Export of a fitted model as an artifact, which devices and the server use without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paramcast.artifact.write import export_device, export_hypernetwork
from paramcast.errors import InputError
from paramcast.protocol import load_or_make_key, public_key_hex
from paramcast.protocol.signing import is_public_key
from paramcast.training import examples
from paramcast.training.describers import BesideDescriber
from paramcast.training.model import AdaptableModel


def export(
    model: AdaptableModel,
    out: Path | str,
    *,
    key: Path | str | None = None,
    task: str = "module",
    labels: Sequence[str] | None = None,
    probe: Any = None,
) -> Path:
    """Write a model's artifact: `out/device` and `out/server`.

    Args:
        model: A fitted model.
        out: The artifact's folder; an older artifact there is replaced.
        key: File of the signing key, made if it does not exist, or the public key in hex; devices trust this
            key. None: devices trust the first server that they meet.
        task: Name of the model's task, as the dashboard shows it.
        labels: Names of the classes, in the order of the outputs.
        probe: Inputs with at least one example. The artifact contains the first one; server and devices try
            updates on it. None: an artificial example.

    Returns:
        The folder.

    Raises:
        ExportError: The graph's outputs differ from the module's, or `out` is no artifact.
        InputError: The updates start from a free baseline.
    """
    if model.fitted.start is not None:
        raise InputError(
            "a model whose updates start from a free baseline cannot be exported yet; "
            "fit it without start=True"
        )
    fitted, out = model.fitted, Path(out)
    describer = model.describer.describe if isinstance(model.describer, BesideDescriber) else model.describer
    public = str(key) if is_public_key(key) else None
    if key is not None and public is None:
        public = public_key_hex(load_or_make_key(Path(key)))
    # The artifact contains the first example of `traced`: if possible, it is not a user's example.
    if probe is None:
        first = examples.shipped(model.net, fitted.example)
    else:
        first = examples.take(examples.as_tensors(probe, "probe"), slice(0, 1))
    traced = fitted.example if first is fitted.example else examples.joined([first, fitted.example])
    sha256 = export_device(
        model.adapted,
        describer,
        fitted.uplink,
        traced,
        out,
        task=task,
        labels=labels,
        public_key=public,
    )
    export_hypernetwork(
        model.hypernet,
        out,
        model=sha256,
        adapter=model.adapted.adapter.name,
        shapes=model.adapted.adapter.shapes,
        uplink_dims=(fitted.uplink.matrix.shape[1], 1),
        task=task,
    )
    return out
