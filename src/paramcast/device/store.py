"""What a device keeps over a restart: its packages by content, which of them it runs, and the keys it trusts.

A folder serves several tasks and several users: each pair of a device id and a base model has a slot of its
own in it, with

    cloud.key              the cloud's public keys in hex, the newest first
    delegation.json        the root's word for the newest of them, if there is a root
    notice                 the newest notice of what is called back, as it arrived
    state.json             which package runs, and what is known of each
    SHA256.pcpk            a package, as it arrived, under the sha256 of its bytes

Every file is replaced whole or not at all, a package always before the state that names it. So whenever the
power is cut, a restart finds the state before or the state after. Nothing that is read is trusted: a
package's bytes have to have the sha256 that it is called by, and the runtime checks them as if they had just
arrived.
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
"""Of all packages in a folder, whatever their slots."""

MAX_PACKAGES = 16
"""Of a slot."""

UNUSED_S = 30 * 86400.0
"""A slot that nobody has opened for so long may lose the package that it runs, if there is no other room."""

FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Kept:
    """A package in the store.

    Attributes:
        sha256: Of its bytes, 64 hex digits.
        sequence: Its sequence number.
        expires: Unix seconds from which it could no longer have been taken up.
        taken: Unix seconds when it was.
    """

    sha256: str
    sequence: int
    expires: int
    taken: float


@dataclass(frozen=True)
class StoreState:
    """What a slot's `state.json` says.

    Attributes:
        highest: The highest sequence number ever taken up in this generation of the cloud's key.
        clock: When the newest package was issued, as the cloud signed it, unix seconds: it is not earlier
            than that. Of a package that does not say it: when it was taken up.
        running: sha256 of the package that runs; None for the base model.
        kept: All packages, by rising sequence.
        generation: Of the key that signed the highest number; 0 without a root.
    """

    highest: int = 0
    clock: float = 0.0
    running: str | None = None
    kept: tuple[Kept, ...] = ()
    generation: int = 0


class PackageStore:
    """The slot of one device id and one base model. One process at a time may use a slot."""

    def __init__(
        self, folder: Path | str, *, device: str, model: str, max_bytes: int = MAX_STORE_BYTES
    ) -> None:
        """Use `folder`, which is made when something is first saved; see `MAX_STORE_BYTES`."""
        # A hash, because a device id may hold characters that some file systems do not allow.
        self._slot = Path(folder) / hashlib.sha256(f"{device}\n{model}".encode()).hexdigest()[:32]
        self._folder = Path(folder)
        self._max_bytes = max_bytes

    def clean(self) -> None:
        """Remove what a killed process has left half written, and note that the slot is in use.

        Raises:
            OSError: If that fails.
        """
        remove_halves(self._slot)
        with suppress(FileNotFoundError):
            os.utime(self._slot / "state.json")

    def forget(self) -> None:
        """Remove the slot, whose user has gone for good. Raises OSError if that fails."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._slot)

    def state(self) -> StoreState | None:
        """The slot's state; None if there is none or it is damaged. Raises OSError if it cannot be read."""
        return _read_state(self._slot)

    def save_state(self, state: StoreState) -> None:
        """Replace the state. Raises OSError if that fails; the old one is then still there."""
        write_json(self._slot / "state.json", {"format": FORMAT, **asdict(state)})

    def digests(self) -> list[str]:
        """sha256 of every package in the slot, whether or not the state knows it."""
        return [path.stem for path in sorted(self._slot.glob("*.pcpk"))]

    def load(self, sha256: str) -> bytes | None:
        """A package's bytes; None if it is not there, or not what it was. Raises OSError as ever."""
        data = _read(self._path(sha256), MAX_PACKAGE_BYTES)
        return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None

    def add(self, data: bytes, running: str | None) -> str:
        """Keep a package, and make room for it: older ones go, but none that is running.

        Only where nothing else is left do the packages go that run in slots which nobody has opened for 30
        days: else users who are gone would keep new ones out for ever.

        Args:
            data: The sealed package.
            running: sha256 of what this slot runs now.

        Returns:
            Its sha256.

        Raises:
            OSError: It cannot be written, or (ENOSPC) there is no room; nothing has changed then, but that
                older packages may be gone.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        self._make_room(len(data), {sha256, running})
        write_bytes(self._path(sha256), data)
        return sha256

    def remove(self, digests: Iterable[str]) -> None:
        """Remove packages that the state does not name any more. Raises OSError if that fails."""
        for sha256 in digests:
            self._path(sha256).unlink(missing_ok=True)

    def load_keys(self) -> tuple[str, ...]:
        """The pinned public keys (hex), the newest first. Raises OSError if they cannot be read."""
        try:
            text = (self._slot / "cloud.key").read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return ()
        return tuple(line for line in text.split() if is_public_key(line))

    def save_keys(self, public_keys: Sequence[str]) -> None:
        """Pin `public_keys` (hex), the newest first. Raises OSError if they cannot be written."""
        write_bytes(self._slot / "cloud.key", "".join(f"{key}\n" for key in public_keys).encode())

    def load_delegation(self) -> bytes | None:
        """The root's word for the newest key, as it was kept. Raises OSError if it cannot be read."""
        return _read(self._slot / "delegation.json", MAX_NOTICE_BYTES)

    def save_delegation(self, delegation: Mapping[str, Any]) -> None:
        """Keep the root's word. Raises OSError if it cannot be written."""
        write_json(self._slot / "delegation.json", delegation)

    def load_notice(self) -> bytes | None:
        """The newest notice, as it arrived. Raises OSError if it cannot be read."""
        return _read(self._slot / "notice", MAX_NOTICE_BYTES)

    def save_notice(self, data: bytes) -> None:
        """Keep a notice. Raises OSError if it cannot be written."""
        write_bytes(self._slot / "notice", data)

    def _path(self, sha256: str) -> Path:
        return self._slot / f"{sha256}.pcpk"

    def _make_room(self, size: int, needed: set[str | None]) -> None:
        """Delete the oldest packages until one of `size` bytes fits the folder, and one more the slot."""
        files = list(self._packages())
        total = sum(bytes_ for _, bytes_, _ in files)
        in_slot = sum(path.parent == self._slot for _, _, path in files)
        if total + size <= self._max_bytes and in_slot < MAX_PACKAGES:
            return  # without a look at what each of so many users runs
        spare, unused = [], []
        running = {slot: _running(slot) for slot in {path.parent for _, _, path in files}}
        for age, bytes_, path in files:
            if path.stem not in (needed if path.parent == self._slot else {running[path.parent]}):
                spare.append((age, bytes_, path))
            elif path.parent != self._slot and (opened := _opened(path.parent)) < time.time() - UNUSED_S:
                unused.append((opened, bytes_, path))
        for _, bytes_, path in [*sorted(spare), *sorted(unused)]:
            own = path.parent == self._slot
            if total + size > self._max_bytes or (own and in_slot >= MAX_PACKAGES):
                path.unlink(missing_ok=True)
                total, in_slot = total - bytes_, in_slot - own
        if total + size > self._max_bytes:
            raise OSError(errno.ENOSPC, f"no room for {size} bytes within the store's {self._max_bytes}")

    def _packages(self) -> Iterator[tuple[float, int, Path]]:
        """Time of writing, bytes and path of every package of every slot."""
        for path in self._folder.glob("*/*.pcpk"):
            try:
                found = path.stat()
            except FileNotFoundError:  # another slot's owner made room
                continue
            yield found.st_mtime, found.st_size, path


def _read(path: Path, most: int) -> bytes | None:
    """A file's bytes, one more than `most` of them at most; None if there is none."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except FileNotFoundError:
        return None


def _opened(slot: Path) -> float:
    """When the slot was opened last, or its state changed; unix seconds."""
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
    """Whether every field has the type and the range that it must have."""
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
