"""The packages that a device keeps, and the keys and notices by which they are judged."""

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
    """What lies in the slot of one device id and base model.

    Attributes:
        refused: The last refusal since a success.
        store_error: Why the last change could not be kept.
    """

    def __init__(
        self,
        model: str,
        device: str,
        shapes: Mapping[str, tuple[int, ...]],
        store: PackageStore | None,
        trusted: TrustedKeys,
    ) -> None:
        """Judge packages of these tensors for `device` and base model `model` by the trusted keys."""
        self._model, self._device, self._shapes = model, device, shapes
        self._store, self._trusted = store, trusted
        self._state = StoreState()
        self._pinned: tuple[str, ...] = ()
        self._board = NoticeBoard(model, trusted)
        self.refused: dict[str, str] | None = None
        self.store_error: str | None = None

    @property
    def public_key(self) -> str | None:
        """Hex of the cloud's key that packages which arrive are checked with, if any is known."""
        return self._trusted.newest

    @property
    def keys(self) -> tuple[str, ...]:
        """Hex of the trusted keys, the newest first: the former ones check what lies in the store."""
        return self._trusted.keys

    @property
    def highest(self) -> int:
        """The highest sequence number taken up in this generation: nothing at or below it is accepted."""
        return self._state.highest

    @property
    def kept(self) -> tuple[Kept, ...]:
        """The packages that `roll_back` can go to, by rising sequence."""
        return self._state.kept

    def _count_anew(self) -> None:
        """Begin with new numbers if the key is of another generation than the highest one."""
        generation = self._trusted.generation or 0
        if self._state.generation != generation:
            self._save(replace(self._state, highest=0, generation=generation))

    def _pin(self) -> None:
        if self._pinned == self._trusted.keys and self._trusted.delegation is None:
            return
        if (delegation := self._trusted.delegation) is not None:  # first: the keys alone say nothing then
            self._to_store(lambda store: store.save_delegation(delegation.to_json()))
        self._pinned = self._trusted.keys
        self._to_store(lambda store: store.save_keys(self._pinned))

    def _rebuilt(self) -> StoreState:
        """The state where there is none or it is damaged: of every genuine package, the newest one runs.

        When they were taken up is not known then, so that they have to be valid now.
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
        # No clock: one that was wrong when the newest was issued would make all that comes seem expired.
        return StoreState(kept[-1].sequence, 0.0, kept[-1].sha256, tuple(kept))

    def _stored(self, kept: Kept, now: float) -> Package:
        data = self._to_store(lambda store: store.load(kept.sha256))
        if data is None:
            name = kept.sequence or kept.sha256[:12]
            raise PackageLost(f"package {name} is gone from the store, or damaged")
        package = self._opened(data, now)
        self._board.check(package, to_run=False)
        return package

    def _opened(self, data: bytes, now: float) -> Package:
        """A package of the store: it outlives the key, and the generation, that it was signed in."""
        for former in self._trusted.keys[1:]:
            with suppress(BadSignature):
                return self._open(data, after=0, now=now, key=former)
        return self._open(data, after=0, now=now, key=self.public_key)

    def _is_foreign(self) -> bool:
        """Whether no trusted key has signed any package of a store that was made before keys were pinned."""
        if self._pinned or self.public_key is None or not self.kept:
            return False
        for kept in self.kept:
            data = self._to_store(lambda store, kept=kept: store.load(kept.sha256))  # type: ignore[misc]
            try:
                self._opened(data or b"", now=0)
            except BadSignature:
                continue
            except PackageError:  # damaged, which tells nothing
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
        """Check a package with a key of the chain, or, in its generation, with the newest."""
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
    """Return a refusal as `status` tells it."""
    return {"error": type(error).__name__, "message": str(error)}
