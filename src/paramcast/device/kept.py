"""Packages that a device keeps, and the checks of packages by keys and notices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from paramcast.device.errors import DeviceInputError, NoPublicKey, PackageLost
from paramcast.device.notices import NoticeBoard
from paramcast.device.store import Kept, PackageStore, StoreState
from paramcast.device.trust import TrustedKeys
from paramcast.protocol import BadSignature, Package, PackageError, open_package

T = TypeVar("T")


class KeptPackages:
    """Content of the store's slot for one device id and base model.

    Attributes:
        refused: Last refusal since a success.
        store_error: Reason why the last change could not be kept in the store.
    """

    def __init__(
        self,
        model: str,
        device: str,
        shapes: Mapping[str, tuple[int, ...]],
        store: PackageStore | None,
        trusted: TrustedKeys,
    ) -> None:
        """Prepare the check of packages by the trusted keys.

        Args:
            model: sha256 of the base model.
            device: Id of the device.
            shapes: Shapes of a package's tensors by name.
            store: Where the packages are kept, if anywhere.
            trusted: The trusted keys.
        """
        self._model, self._device, self._shapes = model, device, shapes
        self._store, self._trusted = store, trusted
        self._state = StoreState()
        self._pinned: tuple[str, ...] = ()
        self._board = NoticeBoard(model, trusted)
        self.refused: dict[str, str] | None = None
        self.store_error: str | None = None

    @property
    def public_key(self) -> str | None:
        """Hex of the cloud's key that checks arriving packages; None if no key is known."""
        return self._trusted.newest

    @property
    def keys(self) -> tuple[str, ...]:
        """Hex of the trusted keys, the newest first. The former keys check packages in the store."""
        return self._trusted.keys

    @property
    def highest(self) -> int:
        """Highest sequence number taken up in this generation. Only higher numbers are accepted."""
        return self._state.highest

    @property
    def kept(self) -> tuple[Kept, ...]:
        """Packages that `roll_back` can go to, in ascending order of sequence."""
        return self._state.kept

    def _count_anew(self) -> None:
        """Begin with new sequence numbers if the key has another generation than the highest number."""
        generation = self._trusted.generation or 0
        if self._state.generation != generation:
            self._save(replace(self._state, highest=0, generation=generation))

    def _pin(self) -> None:
        if self._pinned == self._trusted.keys and self._trusted.delegation is None:
            return
        if (delegation := self._trusted.delegation) is not None:  # first: the keys alone prove nothing then
            self._to_store(lambda store: store.save_delegation(delegation.to_json()))
        self._pinned = self._trusted.keys
        self._to_store(lambda store: store.save_keys(self._pinned))

    def _rebuilt(self) -> StoreState:
        """Rebuild the state from the packages, where the state is missing or damaged.

        The newest valid package runs. The times at which the packages were taken up are unknown, so each
        package counts as taken up at its expiry and must not have expired when it is to run.
        """
        kept = []
        for sha256 in self._to_store(lambda store: store.digests()) or []:
            try:
                package = self._stored(Kept(sha256, 0, 0, 0.0), now=0)
            except PackageError as error:
                self.refused = reason(error)
                continue
            kept.append(Kept(sha256, package.sequence, package.expires, float(package.expires)))
        if not kept:
            return StoreState()
        kept.sort(key=lambda package: package.sequence)
        # The clock stays 0: with a wrong issue time of the newest package, new packages would seem expired.
        return StoreState(kept[-1].sequence, 0.0, kept[-1].sha256, tuple(kept))

    def _stored(self, kept: Kept, now: float) -> Package:
        data = self._to_store(lambda store: store.load(kept.sha256))
        if data is None:
            name = kept.sequence or kept.sha256[:12]
            raise PackageLost(f"package {name} is missing in the store, or damaged")
        package = self._opened(data, now)
        self._board.check(package, to_run=False)
        return package

    def _opened(self, data: bytes, now: float) -> Package:
        """Open a package of the store with any trusted key; it outlives its key and its generation."""
        for former in self._trusted.keys[1:]:
            with suppress(BadSignature):
                return self._open(data, after=0, now=now, key=former)
        return self._open(data, after=0, now=now, key=self.public_key)

    def _is_foreign(self) -> bool:
        """Check whether a store without pinned keys holds packages, none of them signed by a trusted key."""
        if self._pinned or self.public_key is None or not self.kept:
            return False
        for kept in self.kept:
            data = self._to_store(lambda store, kept=kept: store.load(kept.sha256))  # type: ignore[misc]
            try:
                self._opened(data or b"", now=0)
            except BadSignature:
                continue
            except PackageError:  # a damaged package proves nothing
                pass
            return False
        return True

    def _find(self, sequence: int) -> Kept:
        for kept in self.kept:
            if kept.sequence == sequence:
                return kept
        known = ", ".join(str(kept.sequence) for kept in self.kept) or "none"
        raise DeviceInputError(f"the store holds no package {sequence}; it holds: {known}")

    def _save(self, state: StoreState) -> None:
        self._to_store(lambda store: store.save_state(state))
        self._state = state

    def _open(
        self, data: bytes, *, after: int, now: float, key: str | None = None, not_before: float = 0.0
    ) -> Package:
        """Check a package with `key`, or with the newest key and its generation if `key` is None."""
        generation = self._trusted.generation if key is None else None
        key = key or self.public_key
        if key is None:
            raise NoPublicKey("this device knows no cloud key: call CloudClient.trust, or load it with one")
        return open_package(
            data,
            key,
            device=self._device,
            model=self._model,
            after=after,
            now=now,
            expected=self._shapes,
            not_before=not_before,
            generation=generation,
        )

    def _to_store(self, use: Callable[[PackageStore], T]) -> T | None:
        """Call `use` with the store, if there is one; a full or broken disk must not stop the device."""
        if self._store is None:
            return None
        try:
            return use(self._store)
        except OSError as error:
            self.store_error = str(error)
            return None


def reason(error: PackageError) -> dict[str, str]:
    """Return a refusal in the form of `status`."""
    return {"error": type(error).__name__, "message": str(error)}
