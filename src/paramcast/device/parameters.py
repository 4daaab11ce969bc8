"""Parameters that a device runs: check, keep and run packages, roll back, and report the reasons.

Readers never wait: `current` is one reference to an immutable snapshot, and a package is taken up by one
assignment of this reference.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from paramcast.device.inputs import Parameters
from paramcast.device.kept import KeptPackages, reason
from paramcast.device.notices import TO_BASE
from paramcast.device.snapshot import Snapshot
from paramcast.device.store import Kept, PackageStore, StoreState
from paramcast.device.trust import TrustedKeys
from paramcast.protocol import BadSignature, Delegation, Endorsement, Package, PackageError, Withdrawn

WhenExpired = Literal["keep", "base"]
"""Parameters to run after the running package or the newest notice has expired: the package, or the base."""


class ParameterKeeper(KeptPackages):
    """Keeper of the parameters of one device id: it decides which parameters run."""

    def __init__(
        self,
        model: str,
        base: Snapshot,
        device: str,
        store: PackageStore | None,
        trusted: TrustedKeys,
        try_out: Callable[[Parameters, bytes | None], Parameters],
        when_expired: WhenExpired = "keep",
    ) -> None:
        """Begin with the base model; `start` takes up the packages in the store.

        Args:
            model: sha256 of the base model that the packages are made for.
            base: Snapshot that runs without a package.
            device: Id that the packages are made for.
            store: Where packages are kept, if anywhere.
            trusted: The keys that packages are checked with.
            try_out: Function of a package's parameters and their effect as signed by the cloud. It returns
                the inputs of the model's graphs, and raises a PackageError if the model does not work.
            when_expired: Parameters to run after the running package or the newest notice has expired.
        """
        shapes = {name: values.shape for name, values in base.parameters.items()}
        super().__init__(model, device, shapes, store, trusted)
        self._nothing = base
        self._try_out = try_out
        self._when_expired = when_expired
        self._running = self._base("no package has been taken up yet")
        self._changing = threading.Lock()

    @property
    def current(self) -> Snapshot:
        """Snapshot that answers now: the package that was taken up, or the base where it may not run."""
        running = self._running
        why = None if running.source == "base" else self._held_back(running)
        return running if why is None else self._base(why)

    def start(self) -> None:
        """Run the package that ran last, or the newest other one in the store that may still be run.

        A package that was taken up in time runs also after its expiry: a device may be offline for a long
        time, or its clock may be wrong, and a restart does not take a package up again.
        """
        self._to_store(lambda store: store.clean())
        self._pinned = self._to_store(lambda store: store.load_keys()) or ()
        outside = self._trusted.go_on(self._pinned, self._to_store(lambda store: store.load_delegation()))
        found = self._to_store(lambda store: store.state())
        self._state = found or self._rebuilt()
        self._board.go_on(self._to_store(lambda store: store.load_notice()))
        if outside or self._is_foreign():
            self._begin_anew()
            return
        self._count_anew()
        there = self._to_store(lambda store: store.digests()) or []
        known = [kept for kept in self.kept if kept.sha256 in {*there, self._state.running}]
        self._state = replace(self._state, kept=tuple(known))
        if self._state.running is None:
            if known:
                self._running = self._base("rolled back to the base model")
            return
        failed: PackageError | None = None
        for kept in sorted(known, key=lambda kept: (kept.sha256 != self._state.running, -kept.sequence)):
            try:
                package, feed = self._tried(kept, now=0 if kept.taken < kept.expires else self._now())
            except PackageError as error:
                failed = failed or error
                continue
            why = f"package {package.sequence} ran before the last start"
            if failed is not None:
                why = f"package {package.sequence} is the newest in the store that may be run: {failed}"
            self._running = Snapshot.of(package, feed, "store", why)
            self._state = replace(self._state, running=kept.sha256)
            break
        else:
            self._running = self._base(f"no package in the store may be run: {failed}")
        self.refused = None if failed is None else reason(failed)

    def apply(self, data: bytes) -> Package:
        """Check a sealed package, try it, keep it, and run it from now on.

        Raises:
            PackageError: The package may not be run; only `refused` changes then.
        """
        with self._changing:
            try:
                self._trusted.checked(_clock())
                package = self._open(data, after=self.highest, now=_clock(), not_before=self._state.clock)
                self._board.check(package, to_run=True)
                feed = self._try_out(package.tensors, package.effect)
            except PackageError as error:
                self.refused = reason(error)
                raise
            self.store_error = None
            self._keep(data, package)
            self._running = Snapshot.of(
                package, feed, "cloud", f"package {package.sequence} came from the cloud"
            )
            self.refused = None
        return package

    def heed(self, data: bytes) -> bool:
        """Take a notice: drop the packages that it recalls, and run the newest allowed one, or the base.

        Returns:
            Whether another package, or the base model, runs because of the notice.

        Raises:
            PackageError: The notice is not valid, or is older than one that was taken.
        """
        with self._changing:
            before, known = self.current.sequence, self._board.notice
            calls_back = self._board.take(data, _clock())
            if self._board.notice != known:
                self._to_store(lambda store: store.save_notice(data))
            if calls_back:
                self._drop_withdrawn()
            return self.current.sequence != before

    def roll_back(self, to: int | None) -> None:
        """Run an earlier package again, or the base. Packages that arrive later are still taken up.

        Args:
            to: Sequence number of the package; 0 for the base; None for the package before the running one.

        Raises:
            DeviceInputError: The store holds no such package.
            PackageError: The package may not be run; the device keeps its present parameters.
        """
        with self._changing:
            running = self.current.sequence
            earlier = [kept.sequence for kept in self.kept if kept.sequence < running]
            target = to if to is not None else max(earlier, default=0)
            if target == 0:
                sha256, snapshot = None, self._base("rolled back to the base model")
            else:
                kept = self._find(target)
                package = self._stored(kept, now=0)
                self._board.check(package, to_run=True)
                feed = self._try_out(package.tensors, package.effect)
                sha256 = kept.sha256
                snapshot = Snapshot.of(package, feed, "store", f"rolled back to package {target}")
            self.store_error = None
            self._save(replace(self._state, running=sha256))
            self._running = snapshot

    def bake(self, make: Callable[[Parameters], Any]) -> bool:
        """Run the present parameters as constants; return False if others were taken up meanwhile.

        Args:
            make: Function that returns the model's graphs with given inputs as constants.
        """
        before = self.current
        graphs = make(before.feed)
        with self._changing:
            if self._running is not before:
                return False
            self._running = replace(before, graphs=graphs)
        return True

    def trust(self, public_key: str) -> None:
        """Pin the key of the first cloud that the device reaches, also in the store.

        Raises:
            CloudError: The key is malformed, or the device already trusts another key.
        """
        with self._changing:
            self._trusted.pin(public_key)
            self._pin()

    def follow(self, endorsements: Sequence[Endorsement], delegation: Delegation | None = None) -> bool:
        """Trust the key that the root delegates, or the last key of the chain of endorsements.

        For a key outside the chain, sequence numbers begin again, and packages and notices of former keys are
        dropped.

        Returns:
            Whether the trusted key or its generation has changed.

        Raises:
            BadSignature: The delegation is not signed by the root, or an endorsement is not signed by the
                preceding key.
        """
        with self._changing:
            followed = self._trusted.follow(endorsements, delegation, _clock())
            if followed == "outside":
                self._begin_anew()
            elif followed == "chained":
                self._pin()
                self._count_anew()
            return followed != "same"

    def _begin_anew(self) -> None:
        """Forget the packages, sequence numbers and notices of keys that are outside the chain."""
        gone = self._to_store(lambda store: store.digests()) or []
        if self._running.source != "base" or gone:
            why = "the cloud's key is another one, outside of the chain: no package of the former may be run"
            self._running = self._base(why)
            self.refused = reason(BadSignature(why))
        self._board.forget()
        self._pin()
        self._save(StoreState(generation=self._trusted.generation or 0))
        self._to_store(lambda store: store.remove(gone))

    def status(self) -> dict[str, Any]:
        """Describe what runs and why, as JSON types; see `DeviceCore.status`."""
        snapshot = self.current
        return {
            "source": snapshot.source,
            "sequence": snapshot.sequence,
            "version": snapshot.version,
            "why": snapshot.why,
            "baked": snapshot.graphs is not None,
            "expires": snapshot.expires,
            "expired": snapshot.expires is not None and self._now() >= snapshot.expires,
            "packages": [kept.sequence for kept in self.kept],
            "public_key": self.public_key,
            "generation": self._trusted.generation,
            "notice": self._board.status(self._now()),
            "refused": self.refused,
            "store_error": self.store_error,
        }

    def _drop_withdrawn(self) -> None:
        """Remove the packages that the notice recalls; if the running one is among them, run another."""
        running, allowed, gone = self._running, [], []
        for kept in self.kept:
            try:
                self._stored(kept, now=0)
            except Withdrawn:
                gone.append(kept.sha256)
                continue
            except PackageError:  # damaged: the next start says so
                pass
            allowed.append(kept)
        state = replace(self._state, kept=tuple(allowed))
        why = self._board.refusal(running.version, running.issued)
        if running.source != "base" and why is not None:
            why = f"package {running.sequence} was called back: {why}"
            sha256, self._running = self._newest(allowed, why)
            state = replace(state, running=sha256)
        elif self._state.running in gone:
            state = replace(state, running=None)
        if state != self._state:
            self._save(state)
            self._to_store(lambda store: store.remove(gone))

    def _newest(self, allowed: Sequence[Kept], why: str) -> tuple[str | None, Snapshot]:
        """Return the digest and snapshot of the newest of these packages that works, or the base model."""
        for kept in sorted(allowed, key=lambda kept: -kept.sequence):
            with suppress(PackageError):
                package, feed = self._tried(kept)
                return kept.sha256, Snapshot.of(package, feed, "store", why)
        return None, self._base(why)

    def _tried(self, kept: Kept, now: float = 0) -> tuple[Package, Parameters]:
        """Read a package of the store and compute the inputs of the model's graphs for it.

        Raises:
            PackageError: The package may not be run.
        """
        package = self._stored(kept, now)
        return package, self._try_out(package.tensors, package.effect)

    def _held_back(self, running: Snapshot) -> str | None:
        """Return why the base model answers instead of the package that was taken up; None if it does not."""
        notice = self._board.notice
        if notice is not None and notice.to_base:
            return TO_BASE
        if self._when_expired == "keep":
            return None
        now = self._now()
        if running.expires is not None and now >= running.expires:
            return f"package {running.sequence} expired at {running.expires} (unix seconds)"
        if notice is not None and now >= notice.until:
            return f"the newest notice of the server ended at {notice.until} (unix seconds)"
        return None

    def _keep(self, data: bytes, package: Package) -> None:
        """Write the package, then the state that names it; without a store or room, only the state."""
        if package.issued is None:
            now = clock = self._now()
        else:  # the newest issue time counts: where it is earlier, the former was wrong
            now, clock = _clock(), float(package.issued)
        self._pin()
        state = replace(self._state, highest=package.sequence, clock=clock)
        sha256 = self._to_store(lambda store: store.add(data, self._state.running))
        if sha256 is None:
            self._save(state)
            return
        there = set(self._to_store(lambda store: store.digests()) or [])
        kept = Kept(sha256, package.sequence, package.expires, now)
        known = (*(old for old in state.kept if old.sha256 in there), kept)
        self._save(replace(state, running=sha256, kept=known))

    def _base(self, why: str) -> Snapshot:
        return replace(self._nothing, why=why)

    def _now(self) -> float:
        """Return unix seconds; where the clock is behind, the issue time of the newest package."""
        return max(_clock(), self._state.clock)


def _clock() -> float:
    """Return the unix time in seconds."""
    return time.time()
