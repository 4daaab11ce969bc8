"""Which parameters a device runs: checks what arrives, keeps it, goes back to it, and says why.

Readers never wait: `current` is one reference to an immutable snapshot; to take up a package is one
assignment of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from paramcast.device.errors import CloudError, DeviceInputError, NoPublicKey, PackageLost
from paramcast.device.inputs import Parameters
from paramcast.device.store import Kept, PackageStore, StoreState
from paramcast.protocol import BadSignature, Endorsement, Package, PackageError, follow, open_package
from paramcast.protocol.signing import is_public_key

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The parameters in use.

    Attributes:
        parameters: Read-only float32 arrays by name: the tensors of the package.
        feed: What the model's graphs are fed for them.
        source: The base model, a package that has just come from the cloud, or one from the store.
        sequence, expires: The package's (unix seconds); base: 0, None.
        why: Why these and no others, in a sentence.
        graphs: The model with these parameters as constants, once they have been baked.
    """

    parameters: Parameters
    feed: Parameters
    source: Literal["base", "cloud", "store"]
    sequence: int
    expires: int | None
    why: str
    graphs: Any = None


class ParameterKeeper:
    """The parameters of one device id, their history and the key that packages are checked with."""

    def __init__(
        self,
        model: str,
        base: Snapshot,
        device: str,
        store: PackageStore | None,
        public_key: str | None,
        try_out: Callable[[Parameters, bytes | None], Parameters],
    ) -> None:
        """Begin at the base model; `start` goes on with what the store holds.

        Args:
            model: sha256 of the base model that packages are for.
            base: What runs without a package.
            device: The id that they are for.
            store: Where they are kept, if anywhere.
            public_key: Hex of the cloud's key, if it is known.
            try_out: Gives what to feed the model for the parameters of a package, and what the cloud has
                signed of their effect; raises a PackageError if the model does not work with them.
        """
        self._model, self._device, self._store = model, device, store
        self._nothing = base
        self._try_out = try_out
        self._keys: tuple[str, ...] = () if public_key is None else (public_key,)
        self.current = self._base("no package has been taken up yet")
        self._state = StoreState()
        self._changing = threading.Lock()
        self.refused: dict[str, str] | None = None
        self.store_error: str | None = None

    @property
    def public_key(self) -> str | None:
        """Hex of the cloud's key that packages which arrive are checked with, if any is known."""
        return self._keys[0] if self._keys else None

    @property
    def highest(self) -> int:
        """The highest sequence number ever taken up: nothing at or below it is accepted."""
        return self._state.highest

    @property
    def kept(self) -> tuple[Kept, ...]:
        """The packages that `roll_back` can go to, by rising sequence."""
        return self._state.kept

    def start(self) -> None:
        """Go on with the package that ran last, or the newest earlier one that may still be run.

        What was taken up in time is run on after its expiry: a device may be offline for long, or its clock
        wrong, and a restart takes nothing up.
        """
        self._to_store(lambda store: store.clean())
        pinned = self._to_store(lambda store: store.load_keys()) or ()
        # A given key that the cloud has used is where the chain of the pinned ones began.
        if not self._keys or self._keys[0] in pinned:
            self._keys = pinned
        found = self._to_store(lambda store: store.state())
        self._state = found or self._rebuilt()
        there = self._to_store(lambda store: store.digests()) or []
        known = [kept for kept in self.kept if kept.sha256 in {*there, self._state.running}]
        self._state = replace(self._state, kept=tuple(known))
        if self._state.running is None:
            if known:
                self.current = self._base("rolled back to the base model")
            return
        failed: PackageError | None = None
        for kept in sorted(known, key=lambda kept: (kept.sha256 != self._state.running, -kept.sequence)):
            try:
                package = self._stored(kept, now=0 if kept.taken < kept.expires else self._now())
                feed = self._try_out(package.tensors, package.effect)
            except PackageError as error:
                failed = failed or error
                continue
            why = f"package {package.sequence} ran before the last start"
            if failed is not None:
                why = f"package {package.sequence} is the newest in the store that may be run: {failed}"
            self.current = _snapshot(package, feed, "store", why)
            self._state = replace(self._state, running=kept.sha256)
            break
        else:
            self.current = self._base(f"no package in the store may be run: {failed}")
        self.refused = None if failed is None else _reason(failed)

    def apply(self, data: bytes) -> Package:
        """Check a sealed package, try it, keep it, and run it from now on.

        Raises:
            PackageError: If the package may not be run; nothing changes then but `refused`.
        """
        with self._changing:
            try:
                package = self._open(data, after=self.highest, now=_clock(), not_before=self._state.clock)
                feed = self._try_out(package.tensors, package.effect)
            except PackageError as error:
                self.refused = _reason(error)
                raise
            self.store_error = None
            self._keep(data, package)
            self.current = _snapshot(
                package, feed, "cloud", f"package {package.sequence} came from the cloud"
            )
            self.refused = None
        return package

    def roll_back(self, to: int | None) -> None:
        """Run an earlier package again, or the base; later packages are taken up as ever.

        Args:
            to: Its sequence number, 0 for the base; None for the one before that which runs now.

        Raises:
            DeviceInputError: The store holds no such package.
            PackageError: It may not be run; the device keeps the parameters that it has.
        """
        with self._changing:
            earlier = [kept.sequence for kept in self.kept if kept.sequence < self.current.sequence]
            target = to if to is not None else max(earlier, default=0)
            if target == 0:
                running, snapshot = None, self._base("rolled back to the base model")
            else:
                kept = self._find(target)
                package = self._stored(kept, now=0)
                feed = self._try_out(package.tensors, package.effect)
                running = kept.sha256
                snapshot = _snapshot(package, feed, "store", f"rolled back to package {target}")
            self.store_error = None
            self._save(replace(self._state, running=running))
            self.current = snapshot

    def bake(self, make: Callable[[Parameters], Any]) -> bool:
        """Run the present parameters as constants from now on; False if others came meanwhile."""
        before = self.current
        graphs = make(before.feed)
        with self._changing:
            if self.current is not before:
                return False
            self.current = replace(before, graphs=graphs)
        return True

    def trust(self, public_key: str) -> None:
        """Pin the key of the first cloud that is met; kept in the store if there is one.

        Raises:
            CloudError: If the key is malformed, or another one is trusted already.
        """
        if not is_public_key(public_key):
            raise CloudError("the cloud gave a public key that is not 64 lower-case hex digits")
        with self._changing:
            known = self.public_key
            if known is None:
                self._pin((public_key,))
            elif known != public_key:
                raise CloudError(
                    f"the cloud's key is {public_key[:12]}..., this device trusts {known[:12]}... only"
                )

    def follow(self, endorsements: Sequence[Endorsement]) -> bool:
        """Trust the key that the trusted one's chain of endorsements ends in; whether that is another one.

        Raises:
            BadSignature: If a link of the chain is not signed by the key before it.
        """
        with self._changing:
            known = self.public_key
            newest = known and follow(known, endorsements)
            if newest is None or newest == known:
                return False
            self._pin((newest, *self._keys))
            return True

    def _pin(self, keys: tuple[str, ...]) -> None:
        self._keys = keys
        self._to_store(lambda store: store.save_keys(keys))

    def status(self) -> dict[str, Any]:
        """What runs and why, as JSON types; see `DeviceCore.status`."""
        snapshot = self.current
        return {
            "source": snapshot.source,
            "sequence": snapshot.sequence,
            "why": snapshot.why,
            "baked": snapshot.graphs is not None,
            "expires": snapshot.expires,
            "expired": snapshot.expires is not None and self._now() >= snapshot.expires,
            "packages": [kept.sequence for kept in self.kept],
            "public_key": self.public_key,
            "refused": self.refused,
            "store_error": self.store_error,
        }

    def _rebuilt(self) -> StoreState:
        """The state where there is none or it is damaged: of every genuine package, the newest one runs.

        When they were taken up is not known then, so that they have to be valid now.
        """
        kept = []
        for sha256 in self._to_store(lambda store: store.digests()) or []:
            try:
                package = self._stored(Kept(sha256, 0, 0, 0.0), now=0)
            except PackageError as error:
                self.refused = _reason(error)
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
        for former in self._keys[1:]:  # a package outlives the key that it was signed with
            with suppress(BadSignature):
                return self._open(data, after=0, now=now, key=former)
        return self._open(data, after=0, now=now)

    def _find(self, sequence: int) -> Kept:
        for kept in self.kept:
            if kept.sequence == sequence:
                return kept
        known = ", ".join(str(kept.sequence) for kept in self.kept) or "none"
        raise DeviceInputError(f"the store holds no package {sequence}; it holds: {known}")

    def _keep(self, data: bytes, package: Package) -> None:
        """Write the package, then the state that names it; without a store or room, remember the sequence."""
        if package.issued is None:
            now = clock = self._now()
        else:  # what the cloud has signed last, also where it is earlier: then the time before was wrong
            now, clock = _clock(), float(package.issued)
        state = replace(self._state, highest=package.sequence, clock=clock)
        sha256 = self._to_store(lambda store: store.add(data, self._state.running))
        if sha256 is None:
            self._save(state)
            return
        there = set(self._to_store(lambda store: store.digests()) or [])
        kept = Kept(sha256, package.sequence, package.expires, now)
        known = (*(old for old in state.kept if old.sha256 in there), kept)
        self._save(replace(state, running=sha256, kept=known))

    def _save(self, state: StoreState) -> None:
        self._to_store(lambda store: store.save_state(state))
        self._state = state

    def _open(
        self, data: bytes, *, after: int, now: float, key: str | None = None, not_before: float = 0.0
    ) -> Package:
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
            expected={name: values.shape for name, values in self._nothing.parameters.items()},
            not_before=not_before,
        )

    def _base(self, why: str) -> Snapshot:
        return replace(self._nothing, why=why)

    def _now(self) -> float:
        """Unix seconds; not earlier than the issue time of the newest package, whatever the clock says."""
        return max(_clock(), self._state.clock)

    def _to_store(self, use: Callable[[PackageStore], T]) -> T | None:
        """Call `use` with the store, if there is one; a full or broken disk must not stop the device."""
        if self._store is None:
            return None
        try:
            return use(self._store)
        except OSError as error:
            self.store_error = str(error)
            return None


def _snapshot(package: Package, feed: Parameters, source: Literal["cloud", "store"], why: str) -> Snapshot:
    for values in (*package.tensors.values(), *feed.values()):
        values.flags.writeable = False
    return Snapshot(package.tensors, feed, source, package.sequence, package.expires, why)


def _clock() -> float:
    """Unix time in seconds."""
    return time.time()


def _reason(error: PackageError) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}
