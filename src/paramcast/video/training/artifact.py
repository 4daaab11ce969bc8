"""Writes the artifact of a video model: the folders `device` (the bundle) and `server` (hypernetwork)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from paramcast.artifact.server_write import write_server_side
from paramcast.errors import InputError
from paramcast.video.training.export import export_bundle
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.serving import server_side


def export_artifact(model: TrainedModel, out: Path | str, public_key: str | None = None) -> Path:
    """Write an artifact atomically; an older artifact in the same folder is replaced.

    Args:
        model: A trained model.
        out: The folder.
        public_key: See `export_bundle`.

    Raises:
        InputError: See `export_bundle`; or `out` exists and is not an artifact.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()) and not (out / "server" / "manifest.json").exists():
        raise InputError(f"{out} exists and is not an artifact; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        made = Path(scratch) / "artifact"
        export_bundle(model, made / "device", public_key)
        write_server_side(server_side(model), made)
        if out.exists():
            shutil.rmtree(out)
        made.rename(out)
    return out
