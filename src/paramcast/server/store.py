"""The folder of published models, each under the sha256 of its files. Models are added and never changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from paramcast.errors import InputError
from paramcast.files import own_as

_CHUNK = 1 << 20
_DAY_S = 86400


class ModelStore:
    """A folder of model folders. Publishing copies models into it; several services may read it at once."""

    def __init__(self, root: Path | str) -> None:
        """Use `root`, which is made when the first model is added."""
        self.root = Path(root)

    @classmethod
    def beside(cls, state: str, root: Path | None) -> ModelStore:
        """Return the store at `root`, or beside the file of the state if `root` is None.

        Raises:
            InputError: If the state is no file, so that the folder must be given.
        """
        if root is None and "://" in state:
            raise InputError(
                "the state is not a file: name the folder of published models with --store FOLDER"
            )
        return cls(root or Path(state).with_suffix(".models"))

    def add(self, folder: Path | str) -> str:
        """Copy a model's folder into the store atomically, and return its digest.

        Raises:
            InputError: If there is no such folder, or it has no files.
        """
        source = Path(folder)
        digest = folder_digest(source)
        if (self.root / digest).is_dir():
            return digest
        if not self.root.is_dir():
            self.root.mkdir(parents=True, exist_ok=True)
            own_as(self.root, self.root.parent)
        self._remove_halves()
        copy = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=self.root))
        try:
            shutil.copytree(source, copy / "model")
            if folder_digest(copy / "model") != digest:
                raise InputError(f"{source} changed while it was copied; publish it again")
            _settle(copy / "model")
            own_as(copy / "model", self.root)
            (copy / "model").replace(self.root / digest)
            _sync(self.root)
        except FileExistsError:
            pass  # another publisher of the same files was first
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        return digest

    def _remove_halves(self) -> None:
        """Remove incomplete copies of killed processes: copies that are older than a day."""
        for left in self.root.glob(".*.tmp"):
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < time.time() - _DAY_S:
                    shutil.rmtree(left, ignore_errors=True)

    def path(self, digest: str) -> Path:
        """Return the folder of a model after a check of all its files.

        Raises:
            InputError: If the folder is missing, or its files are not those that were published.
        """
        folder = self.root / digest
        if folder_digest(folder) != digest:
            raise InputError(f"the files in {folder} are not those that were published; restore them")
        return folder


def _settle(folder: Path) -> None:
    """Sync every file to the disk, and set modes so that the service's user can read them."""
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        _sync(path)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folder_digest(folder: Path) -> str:
    """Compute the sha256 (hex) over the names and contents of all files below `folder`.

    Raises:
        InputError: If there are no files, or a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files:
            content = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    content.update(chunk)
            digest.update(f"{path.relative_to(folder).as_posix()}\0{content.hexdigest()}\n".encode())
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error
    if not files:
        raise InputError(f"{folder} is no folder of a model: there are no files in it")
    return digest.hexdigest()
