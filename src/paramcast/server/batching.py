"""Micro-batching: all requests that wait when the model becomes free are one batch."""

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
_Waiting = tuple[Asked, "asyncio.Future[Given]"]


class OverloadedError(ParamcastError):
    """The queue is full.

    Attributes:
        retry_after_s: Seconds after which to retry.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many requests are waiting; ask again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Batcher(Generic[Asked, Given]):
    """Collects requests in an event loop, and processes them in one thread, a batch at a time.

    There is no deadline to wait for. A single request is processed at once. Under load, a batch contains the
    requests that arrived while the previous batch was processed.

    Every client has a separate queue, and the queues take turns. A client with many requests waits behind its
    own requests, and does not delay other clients. If there is no room, a request of the longest queue gives
    way to a request of a shorter queue.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Sequence[Given | Exception]],
        *,
        largest: int,
        room: int,
        metrics: Metrics | None = None,
    ) -> None:
        """Process up to `largest` requests at a time with `work`, while up to `room` requests wait.

        Args:
            work: Returns an outcome for each request, in order. An exception as outcome is raised for its
                request alone. An exception that `work` raises is raised for all requests of the batch.
            largest: Largest number of requests in a batch.
            room: Largest number of waiting requests.
            metrics: Counts batches, and requests that found no room.
        """
        self._work, self._largest, self._room = work, largest, room
        self._lines: dict[str, deque[_Waiting[Asked, Given]]] = {}
        self._first: deque[_Waiting[Asked, Given]] = deque()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batcher")
        self._busy = False
        self._pace = Pace()
        self._metrics = metrics
        if metrics:
            metrics.watch(lambda: self.waiting)

    @property
    def full(self) -> bool:
        """Whether the queue is full now."""
        return self._waiting >= self._room

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return self._waiting

    def check_room(self, whose: str = "") -> None:
        """Check that there is room for one more request of `whose`, before the request is read.

        Raises:
            OverloadedError: There is no room.
        """
        if self.full and self._longer_than(whose) is None:
            raise self._overloaded()

    async def ask(self, asked: Asked, whose: str = "") -> Given:
        """Wait for the outcome of one request.

        Args:
            asked: The request.
            whose: The client, in whose queue the request waits.

        Raises:
            OverloadedError: There is no room.
        """
        if self.full:
            longest = self._longer_than(whose)
            if longest is None:
                raise self._overloaded()
            self._drop(longest)
        line = self._lines.setdefault(whose, deque())
        self._waiting += 1
        return await self._wait(asked, line)

    async def ask_first(self, asked: Asked) -> Given:
        """Wait for the outcome of a request of the service itself, which joins the next batch in any case."""
        return await self._wait(asked, self._first)

    async def _wait(self, asked: Asked, line: deque[_Waiting[Asked, Given]]) -> Given:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Given] = loop.create_future()
        line.append((asked, future))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next_batch)  # after all requests of this iteration of the loop
        return await future

    def _longer_than(self, whose: str) -> str | None:
        """Return the longest queue, if it stays longer than the queue of `whose` with one more request."""
        longest = max(self._lines, key=lambda name: len(self._lines[name]), default=None)
        mine = len(self._lines.get(whose, ()))
        return longest if longest is not None and len(self._lines[longest]) > mine + 1 else None

    def _drop(self, whose: str) -> None:
        """Refuse the last request of a queue, which has at least two."""
        _, future = self._lines[whose].pop()
        self._waiting -= 1
        if not future.done():
            future.set_exception(self._overloaded())

    def _overloaded(self) -> OverloadedError:
        if self._metrics:
            self._metrics.refused.inc()
        return OverloadedError(self._pace.come_back_s())

    def _taken(self) -> list[_Waiting[Asked, Given]]:
        """Take the next batch out of the queues: one request of each queue in turn."""
        batch = [self._first.popleft() for _ in range(len(self._first))]
        while self._lines and len(batch) < self._largest:
            name = next(iter(self._lines))
            line = self._lines.pop(name)
            batch.append(line.popleft())
            self._waiting -= 1
            if line:
                self._lines[name] = line  # at the end
        return batch

    def _next_batch(self) -> None:
        batch = self._taken()
        self._busy = bool(batch)
        if not batch:
            return
        if self._metrics:
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
        self._next_batch()  # first, so that the thread works while the answers are sent
        error = done.exception()
        outcomes = [error] * len(futures) if error else done.result()
        for future, outcome in zip(futures, outcomes, strict=True):
            if future.done():  # the client has closed the connection
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
