"""Which of the server's keys a device trusts: by a chain of endorsements, or by the word of an offline root.

With a root, the online key is the one of the highest generation that the root has delegated, and online keys
endorse nobody. Section "Keys" of docs/protocol.md has the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from paramcast.device.errors import CloudError, NoPublicKey
from paramcast.protocol import BadSignature, Delegation, Endorsement, MessageError, follow
from paramcast.protocol.signing import is_public_key

Followed = Literal["same", "chained", "outside"]
"""What came of following: the same key, one that the former endorsed, or one outside of its chain."""


class TrustedKeys:
    """The keys of one device and base model, the newest first.

    Attributes:
        root: Public key of the root, hex; None: the fleet has none.
        keys: Public keys, hex: the newest checks what arrives, the former ones what is in the store.
        delegation: The root's word for the newest key.
    """

    def __init__(self, given: tuple[str, ...], root: str | None) -> None:
        """Trust the keys `given`, the newest first, unless there is a root: then only what that delegates."""
        self.root = root
        self.keys = given if root is None else ()
        self.delegation: Delegation | None = None

    @property
    def newest(self) -> str | None:
        """The key that what arrives is checked with, if any is known."""
        return self.keys[0] if self.keys else None

    @property
    def generation(self) -> int | None:
        """In which the root has delegated the newest key; None: no root is known."""
        if self.root is None:
            return None
        return self.delegation.generation if self.delegation else 0

    def go_on(self, pinned: tuple[str, ...], stored: bytes | None) -> bool:
        """Go on with what the store has pinned; whether the trusted key is outside of that chain.

        Args:
            pinned: Public keys, the newest first.
            stored: The delegation that was taken last.
        """
        if self.root is not None:
            self.keys = ()
            if stored is not None:
                with suppress(BadSignature, MessageError):  # another root's, or damaged: the server has it
                    known = Delegation.read(stored)
                    known.check(self.root)
                    self.delegation, self.keys = known, (known.key,)
            return bool(pinned) and pinned != self.keys
        # A given key that is pinned is where the chain of the pinned ones began, or how far it had come.
        if not self.keys or not {*self.keys}.isdisjoint(pinned):
            newer = [key for key in self.keys if key not in pinned]
            self.keys = (*newer, *pinned)
            return False
        return bool(pinned)

    def pin(self, public_key: str) -> None:
        """Trust the key of the first server that is met.

        Raises:
            CloudError: The key is malformed, another one is trusted already, or only the root says which.
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
        """Trust the key that the root delegates in a higher generation; without a root, the chain's last.

        Args:
            endorsements: Of the server's keys.
            delegation: That the server hands out.
            now: Unix seconds.

        Raises:
            BadSignature: The root has not signed the delegation, its time is over, or it names another key
                in a generation that is known; or a link of the chain is not signed by the key before it.
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
        """Return the key that what arrives at `now` (unix seconds) is checked with.

        Raises:
            NoPublicKey: None is known yet.
            BadSignature: The root's word for it is over.
        """
        if self.newest is None:
            raise NoPublicKey("this device knows no cloud key: call CloudClient.trust, or load it with one")
        if self.delegation is not None and now >= self.delegation.not_after:
            raise BadSignature(
                f"the root's delegation of generation {self.generation} ended at "
                f"{self.delegation.not_after} (unix seconds); the server needs a new one"
            )
        return self.newest
