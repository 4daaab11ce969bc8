"""Micro-batching: whatever has come in when the model becomes free is one batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from paramcast.errors import ParamcastError
from paramcast.server.metrics import Metrics
from paramcast.server.pace import Pace

Asked = TypeVar("Asked")
Given = TypeVar("Given")


class OverloadedError(ParamcastError):
    """More is waiting than may wait.

    Attributes:
        retry_after_s: When to come back.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many requests are waiting; come back in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Batcher(Generic[Asked, Given]):
    """Collects what is asked for in an event loop, and works on it in one thread, a batch at a time.

    There is no deadline to wait for: alone, a request is worked on at once; under load, batches grow to what
    comes in while the one before is worked on.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Sequence[Given | Exception]],
        *,
        largest: int,
        room: int,
        metrics: Metrics,
    ) -> None:
        """Work with `work`, on up to `largest` requests at a time, while up to `room` wait.

        Args:
            work: Gives an outcome for each request, in order; an exception is raised to its request alone.
                What it raises itself is raised to all of the batch.
            largest: Requests in a batch.
            room: Requests that wait for theirs.
            metrics: Count batches, and requests that found no room.
        """
        self._work, self._largest, self._room = work, largest, room
        self._waiting: deque[tuple[Asked, asyncio.Future[Given]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batcher")
        self._busy = False
        self._pace = Pace()
        self._metrics = metrics
        metrics.watch(lambda: self.waiting)

    @property
    def full(self) -> bool:
        """Whether there is no room now."""
        return len(self._waiting) >= self._room

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Return if there is room for one more now: worth knowing before a request is looked at.

        Raises:
            OverloadedError: There is none.
        """
        if self.full:
            self._metrics.refused.inc()
            raise OverloadedError(self._pace.come_back_s())

    async def ask(self, asked: Asked, *, whatever_waits: bool = False) -> Given:
        """The outcome for one request.

        Args:
            asked: The request.
            whatever_waits: Let it in even if there is no room.

        Raises:
            OverloadedError: There is no room.
        """
        if not whatever_waits:
            self.check_room()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Given] = loop.create_future()
        self._waiting.append((asked, future))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next_batch)  # after all that came in by the same turn of the loop
        return await future

    def _next_batch(self) -> None:
        self._busy = bool(self._waiting)
        if not self._busy:
            return
        batch = [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]
        self._metrics.count_batch(len(batch))
        requests = [asked for asked, _ in batch]
        begin = time.perf_counter()
        working = asyncio.get_running_loop().run_in_executor(self._thread, self._work, requests)
        working.add_done_callback(lambda done: self._give([future for _, future in batch], done, begin))

    def _give(
        self,
        futures: Sequence[asyncio.Future[Given]],
        done: asyncio.Future[Sequence[Given | Exception]],
        begin: float,
    ) -> None:
        self._pace.worked(len(futures), time.perf_counter() - begin)
        self._next_batch()  # first: the thread works while the answers are sent
        error = done.exception()
        outcomes = [error] * len(futures) if error else done.result()
        for future, outcome in zip(futures, outcomes, strict=True):
            if future.done():  # whoever asked has gone
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
