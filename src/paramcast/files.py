"""Write files so that no reader sees a partly written file, and check runs that resume in a folder."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paramcast.errors import InputError


@contextmanager
def replacing(path: Path | str, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `path`.

    On success the temporary file is synced and renamed over `path`; else it is removed. The file gets the
    permissions `mode`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(mode)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def own_as(path: Path | str, like: Path | str) -> None:
    """Change the owner of the file or folder `path`, with its content, to the owner of `like`.

    This is done only where this process runs as root. An operator may write files as root for a service that
    runs as another user, and that user has to be able to read them.
    """
    if os.name != "posix" or os.geteuid() != 0:
        return
    owner, path = Path(like).stat(), Path(path)
    for one in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.chown(one, owner.st_uid, owner.st_gid, follow_symlinks=False)


def remove_halves(folder: Path | str) -> None:
    """Remove the temporary files of killed writers from `folder`; no process may write there meanwhile."""
    for temporary in Path(folder).glob(".*.tmp"):
        temporary.unlink()


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def check_same_run(folder: Path, what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a run that resumes in `folder` has the same settings as before.

    Args:
        folder: Folder of the run.
        what: What the folder holds, for the message of the error.
        before: Settings of the run in the folder.
        now: Settings of the run that resumes.

    Raises:
        InputError: The settings differ; the message names the folder, `what` and the settings that differ.
    """
    if before != now:
        changed = ", ".join(sorted(key for key in {*before, *now} if before.get(key) != now.get(key)))
        raise InputError(
            f"{folder} holds {what} with other settings ({changed}); choose another folder or remove it"
        )


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
