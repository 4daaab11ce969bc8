"""Keys of the server that a device trusts, by a chain of endorsements or by delegation of an offline root.

With a root, the trusted online key is the key of the highest generation that the root has delegated, and
endorsements by online keys do not count. Section "Keys" of docs/protocol.md has the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from paramcast.device.errors import CloudError, NoPublicKey
from paramcast.protocol import BadSignature, Delegation, Endorsement, MessageError, follow
from paramcast.protocol.signing import is_public_key

Followed = Literal["same", "chained", "outside"]
"""Result of following: the same key, a key that continues its chain, or a key outside its chain."""


class TrustedKeys:
    """Trusted keys of one device and base model, the newest first.

    Attributes:
        root: Public key of the root, hex; None if the fleet has no root.
        keys: Public keys, hex. The newest key checks arriving data, the former keys check the store.
        delegation: The root's delegation of the newest key, if there is one.
    """

    def __init__(self, given: tuple[str, ...], root: str | None) -> None:
        """Trust the keys `given`, the newest first; with a root, trust only keys that the root delegates."""
        self.root = root
        self.keys = given if root is None else ()
        self.delegation: Delegation | None = None

    @property
    def newest(self) -> str | None:
        """Key that checks arriving data; None if no key is known."""
        return self.keys[0] if self.keys else None

    @property
    def generation(self) -> int | None:
        """Generation in which the root has delegated the newest key; 0 before that, None without a root."""
        if self.root is None:
            return None
        return self.delegation.generation if self.delegation else 0

    def go_on(self, pinned: tuple[str, ...], stored: bytes | None) -> bool:
        """Take over the keys that the store has pinned.

        Args:
            pinned: Pinned public keys, the newest first.
            stored: The delegation that was taken last, if any.

        Returns:
            Whether the trusted key is outside the chain of the pinned keys.
        """
        if self.root is not None:
            self.keys = ()
            if stored is not None:
                with suppress(BadSignature, MessageError):  # of another root, or damaged; the server has it
                    known = Delegation.read(stored)
                    known.check(self.root)
                    self.delegation, self.keys = known, (known.key,)
            return bool(pinned) and pinned != self.keys
        # A given key that is pinned is the start of the pinned chain, or a later key of it.
        if not self.keys or not {*self.keys}.isdisjoint(pinned):
            newer = [key for key in self.keys if key not in pinned]
            self.keys = (*newer, *pinned)
            return False
        return bool(pinned)

    def pin(self, public_key: str) -> None:
        """Trust the key of the first server that the device reaches.

        Raises:
            CloudError: The key is malformed, another key is trusted already, or there is a root.
        """
        if not is_public_key(public_key):
            raise CloudError("the cloud gave a public key that is not 64 lower-case hex digits")
        if self.newest == public_key:
            return
        if self.root is not None:
            raise CloudError(f"this device trusts only keys that root {self.root[:12]}... has delegated")
        if self.newest is not None:
            raise CloudError(
                f"the cloud's key is {public_key[:12]}..., this device trusts {self.newest[:12]}... only"
            )
        self.keys = (public_key,)

    def follow(
        self, endorsements: Sequence[Endorsement], delegation: Delegation | None, now: float
    ) -> Followed:
        """Trust the key that the root delegates in a higher generation; without a root, the chain's last key.

        Args:
            endorsements: Endorsements of the server's keys.
            delegation: The root's delegation as the server sends it, if it does.
            now: Unix seconds.

        Raises:
            BadSignature: The root has not signed the delegation, the delegation has ended, or it names
                another key in a known generation; or a link of the chain is not signed by the preceding key.
        """
        if self.root is not None:
            return "same" if delegation is None else self._delegated(delegation, self.root, now)
        newest = self.newest and follow(self.newest, endorsements)
        if newest is None or newest == self.newest:
            return "same"
        self.keys = (newest, *self.keys)
        return "chained"

    def _delegated(self, delegation: Delegation, root: str, now: float) -> Followed:
        delegation.check(root)
        known = self.delegation
        if known is not None and delegation.generation <= known.generation:
            if delegation.generation == known.generation and delegation.key != known.key:
                raise BadSignature(f"the root has delegated two keys in generation {known.generation}")
            return "same"
        if now >= delegation.not_after:
            raise BadSignature(f"the root's delegation ended at {delegation.not_after} (unix seconds)")
        self.delegation = delegation
        self.keys = (delegation.key,)
        return "chained" if known is not None and known.key == delegation.key else "outside"

    def checked(self, now: float) -> str:
        """Return the key that checks data arriving at `now` (unix seconds).

        Raises:
            NoPublicKey: No key is known yet.
            BadSignature: The root's delegation of the key has ended.
        """
        if self.newest is None:
            raise NoPublicKey("this device knows no cloud key: call CloudClient.trust, or load it with one")
        if self.delegation is not None and now >= self.delegation.not_after:
            raise BadSignature(
                f"the root's delegation of generation {self.generation} ended at "
                f"{self.delegation.not_after} (unix seconds); the server needs a new one"
            )
        return self.newest
