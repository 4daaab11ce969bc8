"""Writes the folder `server` of an artifact."""

from __future__ import annotations

import hashlib
from pathlib import Path

from paramcast import __version__
from paramcast.artifact.server_read import FORMAT, GRAPH, ServerSide
from paramcast.files import write_bytes, write_json


def write_server_side(side: ServerSide, artifact: Path | str) -> Path:
    """Write the folder `server` of an artifact, the manifest last. Returns the artifact's folder."""
    artifact = Path(artifact)
    folder = artifact / "server"
    write_bytes(folder / GRAPH, side.graph)
    write_json(
        folder / "manifest.json",
        {
            "format": FORMAT,
            "model": side.model,
            "adapter": side.adapter,
            "task": side.task,
            "parameters": [
                {"name": name, "shape": list(shape), "dtype": "float32"}
                for name, shape in side.parameters.items()
            ],
            "uplink_dims": list(side.uplink_dims),
            "files": {GRAPH: hashlib.sha256(side.graph).hexdigest()},
            "version": __version__,
        },
    )
    return artifact
