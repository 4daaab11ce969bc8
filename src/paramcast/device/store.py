"""Files that a device keeps over a restart: its packages, the state that names the running one, and its keys.

A folder serves several tasks and several users. Each pair of a device id and a base model has a slot in it
(a subfolder) with these files:

    cloud.key              the cloud's public keys in hex, the newest first
    delegation.json        the root's delegation of the newest key, if there is a root
    notice                 the newest notice of recalled packages, as it arrived
    state.json             the running package, and the number and times of each package
    SHA256.pcpk            a package, as it arrived, named by the sha256 of its bytes

Every file is replaced whole or not at all, and a package is written before the state that names it. So after
a power failure, a restart finds the former state or the new state. No file is trusted: the bytes of a package
must have the sha256 in its name, and the runtime checks them like a package that has just arrived.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paramcast.files import remove_halves, write_bytes, write_json
from paramcast.protocol import MAX_PACKAGE_BYTES
from paramcast.protocol.limits import MAX_NOTICE_BYTES
from paramcast.protocol.signing import is_public_key

MAX_STORE_BYTES = 256 * 1024 * 1024
"""Limit of the bytes of all packages in a folder, over all slots."""

MAX_PACKAGES = 16
"""Limit of the number of packages in a slot."""

UNUSED_S = 30 * 86400.0
"""Seconds. A slot that was not opened for longer may lose its running package if there is no other room."""

FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Kept:
    """Package in the store.

    Attributes:
        sha256: sha256 of the package's bytes, 64 hex digits.
        sequence: Sequence number of the package.
        expires: Unix seconds from which the package could no longer be taken up.
        taken: Unix seconds when the package was taken up.
    """

    sha256: str
    sequence: int
    expires: int
    taken: float


@dataclass(frozen=True)
class StoreState:
    """Content of a slot's `state.json`.

    Attributes:
        highest: Highest sequence number taken up in this generation of the cloud's key.
        clock: Issue time of the newest package as signed by the cloud, in unix seconds; the present time is
            not earlier. If the package names no issue time: the time when it was taken up.
        running: sha256 of the running package; None for the base model.
        kept: All packages, in ascending order of sequence.
        generation: Generation of the key that signed the highest number; 0 without a root.
    """

    highest: int = 0
    clock: float = 0.0
    running: str | None = None
    kept: tuple[Kept, ...] = ()
    generation: int = 0


class PackageStore:
    """Slot of one device id and one base model. Only one process at a time may use a slot."""

    def __init__(
        self, folder: Path | str, *, device: str, model: str, max_bytes: int = MAX_STORE_BYTES
    ) -> None:
        """Use a slot in `folder`. The folder is made when a file is first saved; see `MAX_STORE_BYTES`."""
        # A hash names the slot, because a device id may hold characters that some file systems forbid.
        self._slot = Path(folder) / hashlib.sha256(f"{device}\n{model}".encode()).hexdigest()[:32]
        self._folder = Path(folder)
        self._max_bytes = max_bytes

    def clean(self) -> None:
        """Remove temporary files of killed processes, and mark the slot as in use.

        Raises:
            OSError: A file cannot be removed or touched.
        """
        remove_halves(self._slot)
        with suppress(FileNotFoundError):
            os.utime(self._slot / "state.json")

    def forget(self) -> None:
        """Remove the slot of a user who will not return. Raises OSError if that fails."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._slot)

    def state(self) -> StoreState | None:
        """Read the slot's state; None if it is missing or damaged. Raises OSError if it cannot be read."""
        return _read_state(self._slot)

    def save_state(self, state: StoreState) -> None:
        """Replace the state. Raises OSError if that fails; the old state then stays."""
        write_json(self._slot / "state.json", {"format": FORMAT, **asdict(state)})

    def digests(self) -> list[str]:
        """Return the sha256 of every package in the slot, also of packages that the state does not name."""
        return [path.stem for path in sorted(self._slot.glob("*.pcpk"))]

    def load(self, sha256: str) -> bytes | None:
        """Read a package; None if it is missing or damaged. Raises OSError if it cannot be read."""
        data = _read(self._path(sha256), MAX_PACKAGE_BYTES)
        return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None

    def add(self, data: bytes, running: str | None) -> str:
        """Write a package, after older packages are deleted to make room for it.

        Running packages are kept. If there is still no room, the running packages of slots that were not
        opened for 30 days are deleted too; else the packages of former users would exclude new ones forever.

        Args:
            data: The sealed package.
            running: sha256 of the package that this slot runs now.

        Returns:
            The sha256 of the package.

        Raises:
            OSError: The package cannot be written, or there is no room (ENOSPC). Nothing changes then, except
                that older packages may be deleted.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        self._make_room(len(data), {sha256, running})
        write_bytes(self._path(sha256), data)
        return sha256

    def remove(self, digests: Iterable[str]) -> None:
        """Remove packages that the state no longer names. Raises OSError if that fails."""
        for sha256 in digests:
            self._path(sha256).unlink(missing_ok=True)

    def load_keys(self) -> tuple[str, ...]:
        """Read the pinned public keys (hex), the newest first. Raises OSError if they cannot be read."""
        try:
            text = (self._slot / "cloud.key").read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return ()
        return tuple(line for line in text.split() if is_public_key(line))

    def save_keys(self, public_keys: Sequence[str]) -> None:
        """Pin `public_keys` (hex), the newest first. Raises OSError if they cannot be written."""
        write_bytes(self._slot / "cloud.key", "".join(f"{key}\n" for key in public_keys).encode())

    def load_delegation(self) -> bytes | None:
        """Read the root's delegation of the newest key. Raises OSError if it cannot be read."""
        return _read(self._slot / "delegation.json", MAX_NOTICE_BYTES)

    def save_delegation(self, delegation: Mapping[str, Any]) -> None:
        """Write the root's delegation. Raises OSError if it cannot be written."""
        write_json(self._slot / "delegation.json", delegation)

    def load_notice(self) -> bytes | None:
        """Read the newest notice, as it arrived. Raises OSError if it cannot be read."""
        return _read(self._slot / "notice", MAX_NOTICE_BYTES)

    def save_notice(self, data: bytes) -> None:
        """Write a notice. Raises OSError if it cannot be written."""
        write_bytes(self._slot / "notice", data)

    def _path(self, sha256: str) -> Path:
        return self._slot / f"{sha256}.pcpk"

    def _make_room(self, size: int, needed: set[str | None]) -> None:
        """Delete the oldest packages until `size` bytes fit into the folder and one package into the slot.

        The state of another slot is read only before one of its packages would be deleted: a folder may hold
        thousands of users.
        """
        files = list(self._packages())
        total = sum(bytes_ for _, bytes_, _ in files)
        in_slot = sum(path.parent == self._slot for _, _, path in files)
        running: dict[Path, str | None] = {}
        others = []
        for age, bytes_, path in sorted(files):
            own = path.parent == self._slot
            if total + size <= self._max_bytes and (not own or in_slot < MAX_PACKAGES):
                continue
            if not own and path.parent not in running:
                running[path.parent] = _running(path.parent)
            if own and path.stem in needed:
                continue
            if not own and path.stem == running[path.parent]:
                others.append((age, bytes_, path))
                continue
            path.unlink(missing_ok=True)
            total, in_slot = total - bytes_, in_slot - own
        if total + size > self._max_bytes:
            total = self._remove_unused(others, size, total)
        if total + size > self._max_bytes:
            raise OSError(errno.ENOSPC, f"no room for {size} bytes within the store's {self._max_bytes}")

    def _remove_unused(self, running: Iterable[tuple[float, int, Path]], size: int, total: int) -> int:
        """Delete running packages of slots that were not opened for long; return the bytes that stay."""
        unused = [(_opened(path.parent), bytes_, path) for _, bytes_, path in running]
        for opened, bytes_, path in sorted(unused):
            if total + size <= self._max_bytes or opened >= time.time() - UNUSED_S:
                break
            path.unlink(missing_ok=True)
            total -= bytes_
        return total

    def _packages(self) -> Iterator[tuple[float, int, Path]]:
        """Yield time of writing, size in bytes and path of every package of every slot."""
        for slot in _entries(self._folder):
            for file in _entries(slot.path) if slot.is_dir() else ():
                if not file.name.endswith(".pcpk"):
                    continue
                try:
                    found = file.stat()
                except FileNotFoundError:  # the process of another slot made room
                    continue
                yield found.st_mtime, found.st_size, Path(file.path)


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """List a folder, which takes a fifth of the time of `Path.glob`; empty if the folder is gone."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _read(path: Path, most: int) -> bytes | None:
    """Read at most `most` + 1 bytes of a file; None if there is no file."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except FileNotFoundError:
        return None


def _opened(slot: Path) -> float:
    """Return when the slot was last opened or its state last changed; unix seconds."""
    try:
        return (slot / "state.json").stat().st_mtime
    except OSError:
        return 0.0


def _running(slot: Path) -> str | None:
    try:
        state = _read_state(slot)
    except OSError:
        return None
    return state.running if state else None


def _read_state(slot: Path) -> StoreState | None:
    try:
        text = (slot / "state.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return None
    try:
        stored = json.loads(text)
        if stored.pop("format") != FORMAT:
            return None
        kept = tuple(Kept(**entry) for entry in stored.pop("kept"))
        state = StoreState(kept=kept, **stored)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return state if _is_sound(state) else None


def _is_sound(state: StoreState) -> bool:
    """Check whether every field has a valid type and range."""
    digests = [package.sha256 for package in state.kept]
    numbers: list[Any] = [state.highest, state.generation, *(package.sequence for package in state.kept)]
    numbers += [package.expires for package in state.kept]
    times: list[Any] = [state.clock, *(package.taken for package in state.kept)]
    return (
        all(isinstance(digest, str) and _SHA256.fullmatch(digest) for digest in digests)
        and all(type(number) is int and number >= 0 for number in numbers)
        and all(type(at) in (int, float) and math.isfinite(at) for at in times)
        and (state.running is None or state.running in digests)
    )
