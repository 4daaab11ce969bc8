"""What a device keeps over a restart: its last good package, and the cloud key that it has come to trust."""

from __future__ import annotations

import hashlib
from pathlib import Path

from paramcast.files import write_bytes
from paramcast.wire import MAX_PACKAGE_BYTES
from paramcast.wire.signing import is_public_key


class PackageStore:
    """Files of one device and one base model in a folder; each is replaced whole or not at all.

    Nothing that is read is trusted: the runtime checks a stored package as if it had just arrived.
    """

    def __init__(self, folder: Path | str, *, device: str, model: str) -> None:
        """Use `folder`, which is made when something is first saved."""
        # A hash, because a device id may hold characters that some file systems do not allow.
        name = hashlib.sha256(f"{device}\n{model}".encode()).hexdigest()[:32]
        self._package = Path(folder) / f"{name}.pcpk"
        self._key = Path(folder) / f"{name}.key"

    def load(self) -> bytes | None:
        """The stored package, or None if there is none. Raises OSError if it cannot be read."""
        try:
            with self._package.open("rb") as file:
                return file.read(MAX_PACKAGE_BYTES + 1)
        except FileNotFoundError:
            return None

    def save(self, data: bytes) -> None:
        """Replace the stored package. Raises OSError if that fails; the old one is then still there."""
        write_bytes(self._package, data)

    def load_key(self) -> str | None:
        """The pinned public key (hex), or None if there is none. Raises OSError if it cannot be read."""
        try:
            text = self._key.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return None
        return text if is_public_key(text) else None

    def save_key(self, public_key: str) -> None:
        """Pin `public_key` (hex). Raises OSError if it cannot be written."""
        write_bytes(self._key, f"{public_key}\n".encode())
