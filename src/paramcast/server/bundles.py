"""Files for browsers: the folder `device` of artifacts, with each file under the sha256 of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, JSONResponse, Response

from paramcast.errors import InputError
from paramcast.protocol.limits import MODEL_ID
from paramcast.protocol.root import MANIFEST_SIGNATURE

_NEVER_CHANGES = {"cache-control": "public, max-age=31536000, immutable"}
_ASK_AGAIN = {"cache-control": "no-cache"}
_MISSING: dict[int | str, dict[str, Any]] = {404: {"description": "it does not exist"}}


@dataclass(frozen=True)
class BrowserBundle:
    """A folder `device` whose files have been checked against its manifest.

    Attributes:
        model: sha256 of the base model.
        task, form: Values of the manifest; `form` is the adapter's name.
        manifest: The unchanged bytes of `manifest.json`.
        files: sha256 -> the file.
        signature: The root's signature of the manifest; None if no root has signed it.
    """

    model: str
    task: str
    form: str
    manifest: bytes
    files: dict[str, Path]
    signature: bytes | None = None

    @classmethod
    def open(cls, folder: Path | str) -> BrowserBundle:
        """Read the manifest and check every file against it.

        Raises:
            InputError: If the folder is no bundle, or a file is missing or not the file that was exported.
        """
        folder = Path(folder)
        try:
            manifest = (folder / "manifest.json").read_bytes()
            told = json.loads(manifest)
            model, task = str(told["model"]), str(told["task"])
            form = str(told["form"] if told["format"] == 1 else told["adapter"])
            names = {str(name): str(digest) for name, digest in told["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder} is no bundle for devices; export the artifact again") from error
        if not MODEL_ID.fullmatch(model):
            raise InputError(f"{folder / 'manifest.json'} names no base model; export the bundle again")
        for name, digest in names.items():
            if Path(name).name != name or _sha256(folder / name) != digest:
                raise InputError(
                    f"{folder / name} is not the file that was exported; export the bundle again"
                )
        files = {digest: folder / name for name, digest in names.items()}
        signed = folder / MANIFEST_SIGNATURE
        signature = signed.read_bytes() if signed.is_file() else None
        return cls(model, task, form, manifest, files, signature)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def bundle_routes(bundles: Callable[[], Sequence[BrowserBundle]]) -> APIRouter:
    """Make the routes from which a browser loads its model; its cache keeps files without a time limit.

    Args:
        bundles: Returns the bundles that are in service now, the newest first.
    """
    router = APIRouter()

    @router.get("/v1/bundles")
    def listed() -> JSONResponse:
        """List the base models that a browser may load."""
        by_model = {one.model: one for one in reversed(bundles())}  # the newest bundle of each base model
        told = [
            {"model": one.model, "task": one.task, "form": one.form} for one in reversed(by_model.values())
        ]
        return JSONResponse({"bundles": told}, headers=_ASK_AGAIN)

    @router.get("/v1/bundles/{model}", responses=_MISSING)
    def manifest(model: str) -> Response:
        """Return the manifest of a base model's bundle."""
        found = next((one for one in bundles() if one.model == model), None)
        if found is None:
            raise HTTPException(404, "there is no bundle of this base model here")
        return Response(found.manifest, media_type="application/json", headers=_ASK_AGAIN)

    @router.get("/v1/bundles/{model}/signature", responses=_MISSING)
    def signature(model: str) -> Response:
        """Return the root's signature of the manifest of a base model's bundle."""
        found = next((one for one in bundles() if one.model == model), None)
        if found is None or found.signature is None:
            raise HTTPException(404, "there is no signed bundle of this base model here")
        return Response(found.signature, media_type="text/plain", headers=_ASK_AGAIN)

    @router.get("/v1/files/{digest}", response_class=FileResponse, responses=_MISSING)
    def file(digest: str) -> FileResponse:
        """Return a file of a bundle by the sha256 of its content."""
        path = next((one.files[digest] for one in bundles() if digest in one.files), None)
        if path is None or not path.is_file():
            raise HTTPException(404, "there is no such file here")
        return FileResponse(path, media_type="application/octet-stream", headers=_NEVER_CHANGES)

    return router
