"""Identity of an enrolled device: a key that never leaves the device, and a clock that the cloud corrects."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paramcast.device.errors import CloudError, DeviceInputError
from paramcast.device.trust import TrustedKeys
from paramcast.files import write_json
from paramcast.protocol import (
    BadSignature,
    Delegation,
    Endorsement,
    MessageError,
    SigningKey,
    authorize,
    load_key,
    make_key,
    public_key_hex,
    save_key,
)
from paramcast.protocol.credentials import check_time, prove_key
from paramcast.protocol.limits import DEVICE_ID
from paramcast.protocol.signing import is_public_key

_ABOUT, _KEY, _NEXT = "identity.json", "device.key", "next.key"


class DeviceIdentity:
    """Folder with a device's key. Several threads may use it, but only one process at a time.

    Attributes:
        device: Id under which the device is enrolled.
        cloud_key: Hex of the key with which the cloud signs: the key of the time of enrollment, or a later
            key that the root delegates or that the chain of endorsements leads to.
        folder: The folder.
        root: Hex of the root's key, which decides the key that the cloud signs with; None for no root.
    """

    def __init__(self, folder: Path, device: str, cloud_key: str, key: SigningKey) -> None:
        """Use `load` or `prepare`."""
        self.folder, self.device, self.cloud_key = folder, device, cloud_key
        self.root: str | None = None
        self._delegation: Delegation | None = None
        self._key = key
        self._ahead_us = self._last_us = 0
        self._clock = threading.Lock()

    @classmethod
    def load(cls, folder: Path | str) -> DeviceIdentity:
        """Open the folder of an enrolled device.

        Raises:
            DeviceInputError: The device is not enrolled, or the folder is damaged.
            KeyFileError: The key cannot be read.
        """
        folder = Path(folder)
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            device, cloud_key = str(about["device"]), str(about["cloud_key"])
            root, word = about.get("root"), about.get("delegation")
            delegation = None if word is None else Delegation.from_json(word)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, MessageError) as error:
            raise DeviceInputError(
                f"{folder} holds no identity of an enrolled device; run: paramcast device enroll"
            ) from error
        identity = cls(folder, device, cloud_key, load_key(folder / _KEY))
        identity.root, identity._delegation = root, delegation
        return identity

    @classmethod
    def prepare(cls, folder: Path | str, device: str) -> DeviceIdentity:
        """Make a key for a device that is about to enroll; the key of an earlier attempt is used again.

        Raises:
            DeviceInputError: The id is malformed, or the folder belongs to an enrolled device.
        """
        folder = Path(folder)
        if not DEVICE_ID.fullmatch(device):
            raise DeviceInputError(
                "a device id begins with a letter or digit and has at most 128 letters, digits and ._:@+-"
            )
        if (folder / _ABOUT).exists():
            raise DeviceInputError(f"{folder} is the identity of an enrolled device; choose another folder")
        if not (folder / _KEY).exists():
            save_key(make_key(), folder / _KEY)
        return cls(folder, device, "", load_key(folder / _KEY))

    @property
    def public_key(self) -> str:
        """Hex of the device's public key."""
        return public_key_hex(self._key)

    def enrolment(self, token: str) -> dict[str, str]:
        """Build the body of a request to `/v1/enrol`."""
        proof = prove_key(self._key, self.device, token)
        return {"token": token, "device": self.device, "public_key": self.public_key, "proof": proof}

    def enrolled(self, cloud_key: object, root: object = None) -> None:
        """Record that the cloud has accepted the device's key.

        Args:
            cloud_key: Hex of the cloud's key.
            root: Hex of the root's key, if the cloud has sent it.

        Raises:
            CloudError: An argument is no key.
        """
        if not is_public_key(cloud_key) or not (root is None or is_public_key(root)):
            raise CloudError("the cloud gave a public key that is not 64 lower-case hex digits")
        self.root = None if root is None else str(root)
        self._keep(str(cloud_key))

    def pin_root(self, root: str) -> None:
        """Trust only keys that `root` (hex) delegates from now on.

        Raises:
            OSError: The change cannot be written; it holds until the process ends.
        """
        if self.root != root:
            self.root, self._delegation = root, None
            self._keep(self.cloud_key)

    def follow(self, endorsements: Sequence[Endorsement], delegation: Delegation | None = None) -> bool:
        """Trust the key that the root delegates, or, without a root, the last of the chain of endorsements.

        The end of a delegation is not checked, because this key serves to correct the clock.

        Returns:
            Whether the key or the delegation has changed.

        Raises:
            BadSignature: The delegation is not signed by the root, or an endorsement is not signed by the
                preceding key.
            OSError: The change cannot be written; it holds until the process ends.
        """
        trusted = TrustedKeys((self.cloud_key,), self.root)
        trusted.delegation = self._delegation
        trusted.follow(endorsements, delegation, now=0.0)
        newest, changed = trusted.newest or self.cloud_key, trusted.delegation != self._delegation
        self._delegation = trusted.delegation
        if newest == self.cloud_key and not changed:
            return False
        self._keep(newest)
        return True

    def _keep(self, cloud_key: str) -> None:
        self.cloud_key = cloud_key
        about: dict[str, Any] = {"device": self.device, "cloud_key": cloud_key}
        if self.root is not None:
            about["root"] = self.root
        if self._delegation is not None:
            about["delegation"] = self._delegation.to_json()
        write_json(self.folder / _ABOUT, about)

    def sign(self, method: str, path: str, body: bytes, nonce: str) -> str:
        """Make the `authorization` header of a request. To send a request again, make another header."""
        with self._clock:
            self._last_us = max(time.time_ns() // 1000 + self._ahead_us, self._last_us + 1)
            now_us = self._last_us
        return authorize(
            self._key, device=self.device, method=method, path=path, body=body, time_us=now_us, nonce=nonce
        )

    def set_clock(self, refusal: dict[str, Any], nonce: str) -> bool:
        """Set the clock to the time in the cloud's refusal of the request with `nonce`.

        Only the time of the cloud that enrolled the device is used: it signs the time together with the
        nonce.

        Returns:
            Whether the refusal holds a signed time.
        """
        if not self.tells_time(refusal, nonce):
            return False
        with self._clock:
            self._ahead_us = refusal["time_us"] - time.time_ns() // 1000
            self._last_us = 0
        return True

    def tells_time(self, refusal: dict[str, Any], nonce: str) -> bool:
        """Check whether the cloud's refusal of the request with `nonce` holds a signed time."""
        time_us, signature = refusal.get("time_us"), refusal.get("signature")
        if type(time_us) is not int or not isinstance(signature, str):
            return False
        try:
            check_time(self.cloud_key, nonce, time_us, signature)
        except BadSignature:
            return False
        return True

    def next_key(self) -> tuple[SigningKey, dict[str, str]]:
        """Return the device's next key and the body of a request to `/v1/key`.

        The key is written to the disk before the cloud knows it.
        """
        path = self.folder / _NEXT
        if not path.exists():
            save_key(make_key(), path)
        key = load_key(path)
        proof = prove_key(key, self.device, "next")
        return key, {"public_key": public_key_hex(key), "proof": proof}

    def rotated(self, key: SigningKey) -> None:
        """Sign with `key` from now on, after the cloud has accepted it."""
        (self.folder / _NEXT).replace(self.folder / _KEY)
        self._key = key
