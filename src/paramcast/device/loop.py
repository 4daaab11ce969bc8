"""Loop of a device: observe, request packages when the policy decides so, and tolerate failures."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any, Protocol

from paramcast.device.async_client import AsyncCloudClient
from paramcast.device.core import DeviceCore
from paramcast.device.errors import CloudError
from paramcast.device.policy.base import History, RequestPolicy
from paramcast.device.policy.budget import Budget
from paramcast.device.policy.drift import OnDrift
from paramcast.protocol import AdaptRequest, BadSignature, Package, PackageError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 3600.0
"""Seconds without a request after a failure: the first pause, doubled with every failure, and its limit."""

NOTICE_EVERY_S = 3600.0
"""Seconds after which a device asks again for the notice of recalled packages."""


class _Loop:
    """Common part of the two loops: the time and content of requests, and their results. Thread-safe."""

    def __init__(
        self,
        runtime: DeviceCore,
        policy: RequestPolicy | None,
        budget: Budget | None,
        notice_every_s: float,
    ) -> None:
        self.runtime = runtime
        self._watched: Any = runtime  # the arguments of `observe` differ between kinds of devices
        self._policy = policy or OnDrift()
        self._budget = budget or Budget()
        self._lock = threading.Lock()
        self._busy = False
        self._asked_at = 0
        self._package_bytes = 0
        self._failures = 0
        self._not_before = 0.0
        self._notice_every_s = notice_every_s
        self._notice_at = 0.0
        self._notice_failures = 0
        self._waits_for: str | None = None
        self._last_failure: dict[str, str] | None = None
        self._counts = {"asked": 0, "taken": 0, "bytes_up": 0, "bytes_down": 0}

    def status(self) -> dict[str, Any]:
        """Return `DeviceCore.status` with the entry `cloud`, as JSON types.

        `cloud` has `asked` and `taken` (numbers of requests, and of packages taken up), `bytes_up` and
        `bytes_down` (of bodies), `failures` (number in a row), `last_failure` (None after a success), and
        `waits_for` (reason why no request is made although the policy wants one; None if it wants none).
        """
        with self._lock:
            cloud = {
                **self._counts,
                "failures": self._failures,
                "last_failure": self._last_failure,
                "waits_for": self._waits_for,
            }
        return {**self.runtime.status(), "cloud": cloud}

    def _begin(self) -> tuple[AdaptRequest, int] | None:
        """Return the request to make now and the number of observed examples.

        None if the policy, the budget, a pause after a failure or a request under way forbids a request.
        """
        with self._lock:
            observed, recent = self.runtime.observed, self.runtime.recent()
            wanted = self._policy.wants(
                History(observed, observed - self._asked_at, recent, self.runtime.status()["sequence"] > 0)
            )
            self._waits_for = None
            if not wanted or self._busy:
                return None
            request = self.runtime.request(recent[-wanted:])
            size = len(request.encode()) + self._package_bytes
            self._waits_for = self._pause() or self._budget.refusal(size)
            if self._waits_for:
                return None
            self._busy = True
            return request, observed

    def _pause(self) -> str | None:
        left = self._not_before - _monotonic()
        return f"the last request failed; the next may be made in {left:.0f} s" if left > 0 else None

    def _notice_is_due(self) -> bool:
        """Check whether to ask for the notice now; not in a pause after a failure or during a request."""
        with self._lock:
            now = _monotonic()
            if self._busy or now < self._notice_at or self._pause():
                return False
            self._notice_at = now + self._notice_every_s
            return True

    def _noticed(self, error: Exception | None) -> None:
        """Record the outcome of fetching a notice, and set the time of the next attempt."""
        with self._lock:
            self._notice_failures = 0 if error is None else self._notice_failures + 1
            pause = self._notice_every_s
            if error is not None:
                pause = min(pause, FIRST_PAUSE_S * 2 ** min(self._notice_failures - 1, 16))
            self._notice_at = _monotonic() + pause

    def _sent(self, request: AdaptRequest) -> None:
        with self._lock:
            size = len(request.encode())
            self._counts["asked"] += 1
            self._counts["bytes_up"] += size
            self._budget.spend(size)

    def _received(self, data: bytes) -> None:
        with self._lock:
            self._package_bytes = len(data)
            self._counts["bytes_down"] += len(data)
            self._budget.spend(len(data))

    def _taken(self, observed: int) -> None:
        with self._lock:
            self._counts["taken"] += 1
            self._asked_at = observed
            self._failures, self._last_failure = 0, None

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._failures += 1
            # The exponent is bounded too, as a device that is offline for weeks fails a thousand times.
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures - 1, 16))
            self._not_before = _monotonic() + pause
            self._last_failure = {"error": type(error).__name__, "message": str(error)}

    def _end(self) -> None:
        with self._lock:
            self._busy = False


class Cloud(Protocol):
    """Interface of a connection that a loop uses: `CloudClient`, or a service in the same process."""

    def trust(self, runtime: Any) -> None:
        """Let the device pin the cloud's key if it knows no key yet."""

    def follow(self, runtime: Any) -> None:
        """Let the device trust the cloud's newest key."""

    def exchange(self, request: AdaptRequest) -> bytes:
        """Send a request and return the sealed package without a check."""

    def heed(self, runtime: Any, fresh: bool = True) -> bool:
        """Give the device the cloud's notice: a fresh one, or the one of the last answer."""


class AdaptationLoop(_Loop):
    """Observes examples and requests packages by itself.

    `observe` waits for the cloud when it makes a request; other threads may answer meanwhile. `observe`
    raises no errors of the cloud: the device continues with the newest parameters that it may run, and
    `status()` says why.
    """

    def __init__(
        self,
        runtime: DeviceCore,
        cloud: Cloud,
        policy: RequestPolicy | None = None,
        budget: Budget | None = None,
        notice_every_s: float = NOTICE_EVERY_S,
    ) -> None:
        """Use `policy`, by default `OnDrift()`, within `budget`, by default without limits.

        The notice of recalled packages is fetched when an example is observed and `notice_every_s` seconds
        have passed since the last notice.
        """
        super().__init__(runtime, policy, budget, notice_every_s)
        self._cloud = cloud

    def observe(self, *observation: Any) -> bool:
        """Add examples to the support set, and request a package if that is due.

        Args:
            observation: Arguments of the runtime's `observe`: a clip's frames and queries, or inputs.

        Returns:
            Whether a new package was taken up.

        Raises:
            DeviceInputError: The observation cannot be used.
        """
        self._watched.observe(*observation)
        return self.ask()

    def ask(self) -> bool:
        """Request a package if that is due; return whether a new package was taken up."""
        begun = self._begin()
        if begun is None:
            self.heed_if_due()
            return False
        try:
            self._exchange(*begun)
        except (CloudError, PackageError):  # `status()` reports it
            return False
        return True

    def heed_if_due(self) -> None:
        """Fetch the notice of recalled packages if that is due; after a failure, a later call tries again."""
        if self._notice_is_due():
            self._heed_quietly()

    def heed_in_background(self) -> None:
        """Fetch the notice in a thread if that is due, for a device that answers and observes nothing."""
        if self._notice_is_due():
            threading.Thread(target=self._heed_alone, name="paramcast-notice", daemon=True).start()

    def heed(self) -> bool:
        """Fetch the notice of recalled packages now.

        Returns:
            Whether another package, or the base model, runs because of the notice.

        Raises:
            CloudError: The cloud cannot be reached.
            PackageError: The notice is not valid, or is older than one that was taken.
        """
        return self._heed(fresh=True)

    def _heed_quietly(self, fresh: bool = True) -> None:
        with suppress(CloudError, PackageError):
            self._heed(fresh)

    def _heed_alone(self) -> None:
        try:
            self._heed_quietly()
        except Exception as error:  # such as a connection closed meanwhile; no caller waits for it
            self._noticed(error)

    def _heed(self, fresh: bool) -> bool:
        try:
            changed = self._cloud.heed(self.runtime, fresh)
        except (CloudError, PackageError) as error:
            self._noticed(error)
            raise
        self._noticed(None)
        return changed

    def adapt(self) -> Package:
        """Request a package now, with the whole support set, regardless of policy, budget and failures.

        Raises:
            CloudError: The cloud cannot be reached or refuses.
            PackageError: The package may not be run.
            DeviceInputError: No example has been observed.
        """
        observed, request = self.runtime.observed, self.runtime.request()
        with self._lock:
            self._busy = True
        return self._exchange(request, observed)

    def _exchange(self, request: AdaptRequest, observed: int) -> Package:
        try:
            if self.runtime.public_key is None:
                self._cloud.trust(self.runtime)
            self._sent(request)
            try:
                data = self._cloud.exchange(request)
                self._received(data)
                try:
                    package = self.runtime.apply(data)
                except BadSignature:  # the cloud may have changed its key
                    self._cloud.follow(self.runtime)
                    package = self.runtime.apply(data)
            finally:
                self._heed_quietly(fresh=False)
        except (CloudError, PackageError) as error:
            self._failed(error)
            raise
        finally:
            self._end()
        self._taken(observed)
        return package


class AsyncAdaptationLoop(_Loop):
    """`AdaptationLoop` for asyncio code: the model runs in threads, and calls of the cloud are awaited."""

    def __init__(
        self,
        runtime: DeviceCore,
        cloud: AsyncCloudClient,
        policy: RequestPolicy | None = None,
        budget: Budget | None = None,
        notice_every_s: float = NOTICE_EVERY_S,
    ) -> None:
        """Prepare a loop; see `AdaptationLoop`."""
        super().__init__(runtime, policy, budget, notice_every_s)
        self._cloud = cloud

    async def observe(self, *observation: Any) -> bool:
        """Observe examples; see `AdaptationLoop.observe`."""
        await asyncio.to_thread(self._watched.observe, *observation)
        return await self.ask()

    async def ask(self) -> bool:
        """Request a package if that is due; see `AdaptationLoop.ask`."""
        begun = self._begin()
        if begun is None:
            if self._notice_is_due():
                await self._heed_quietly()
            return False
        request, observed = begun
        try:
            if self.runtime.public_key is None:
                await self._cloud.trust(self.runtime)
            self._sent(request)
            try:
                data = await self._cloud.exchange(request)
                self._received(data)
                try:
                    await asyncio.to_thread(self.runtime.apply, data)
                except BadSignature:
                    await self._cloud.follow(self.runtime)
                    await asyncio.to_thread(self.runtime.apply, data)
            finally:
                await self._heed_quietly(fresh=False)
        except (CloudError, PackageError) as error:
            self._failed(error)
            return False
        finally:
            self._end()
        self._taken(observed)
        return True

    async def heed(self) -> bool:
        """Fetch the notice of recalled packages now; see `AdaptationLoop.heed`."""
        return await self._heed(fresh=True)

    async def _heed_quietly(self, fresh: bool = True) -> None:
        with suppress(CloudError, PackageError):
            await self._heed(fresh)

    async def _heed(self, fresh: bool) -> bool:
        try:
            changed = await self._cloud.heed(self.runtime, fresh)
        except (CloudError, PackageError) as error:
            self._noticed(error)
            raise
        self._noticed(None)
        return changed


def _monotonic() -> float:
    return time.monotonic()
