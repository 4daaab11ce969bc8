"""Writing files so that a reader never meets half of one, and runs that go on in a folder."""

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
    """Yield a temporary path beside `path`; on success it is synced and renamed over `path`, else removed.

    Who may read the file is `mode`'s to say.
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
    """Give the file or folder `path`, with all in it, to the owner of `like`, where this process is root's.

    What an operator writes as root for a service that runs as another user has to be readable by that one.
    """
    if os.name != "posix" or os.geteuid() != 0:
        return
    owner, path = Path(like).stat(), Path(path)
    for one in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.chown(one, owner.st_uid, owner.st_gid, follow_symlinks=False)


def remove_halves(folder: Path | str) -> None:
    """Remove what writers that were killed have left in `folder`; nobody may be writing there now."""
    for temporary in Path(folder).glob(".*.tmp"):
        temporary.unlink()


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def check_same_run(folder: Path, what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """See that a run which goes on in `folder` is asked the same as before.

    Raises:
        InputError: It is not; the message names `what` the folder holds and the settings that differ.
    """
    if before != now:
        changed = ", ".join(sorted(key for key in {*before, *now} if before.get(key) != now.get(key)))
        raise InputError(
            f"{folder} holds {what} with other settings ({changed}); choose another folder or remove it"
        )


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
