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
_Waiting = tuple[Asked, "asyncio.Future[Given]"]


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

    Each of those who ask has a line of his own, and the lines take turns: whoever asks often waits behind his
    own requests, not before those of others. Where there is no room, the longest line gives way to a shorter
    one.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Sequence[Given | Exception]],
        *,
        largest: int,
        room: int,
        metrics: Metrics | None = None,
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
        """Whether there is no room now."""
        return self._waiting >= self._room

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return self._waiting

    def check_room(self, whose: str = "") -> None:
        """Return if there is room for one more of `whose`: worth knowing before a request is looked at.

        Raises:
            OverloadedError: There is none.
        """
        if self.full and self._longer_than(whose) is None:
            raise self._overloaded()

    async def ask(self, asked: Asked, whose: str = "") -> Given:
        """The outcome for one request.

        Args:
            asked: The request.
            whose: In whose line it waits.

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
        """The outcome for a request of the service's own: in the next batch, whatever waits."""
        return await self._wait(asked, self._first)

    async def _wait(self, asked: Asked, line: deque[_Waiting[Asked, Given]]) -> Given:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Given] = loop.create_future()
        line.append((asked, future))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next_batch)  # after all that came in by the same turn of the loop
        return await future

    def _longer_than(self, whose: str) -> str | None:
        """The longest line, if another request in that of `whose` would leave it the longer one."""
        longest = max(self._lines, key=lambda name: len(self._lines[name]), default=None)
        mine = len(self._lines.get(whose, ()))
        return longest if longest is not None and len(self._lines[longest]) > mine + 1 else None

    def _drop(self, whose: str) -> None:
        """Send away who came last in a line, which has at least two."""
        _, future = self._lines[whose].pop()
        self._waiting -= 1
        if not future.done():
            future.set_exception(self._overloaded())

    def _overloaded(self) -> OverloadedError:
        if self._metrics:
            self._metrics.refused.inc()
        return OverloadedError(self._pace.come_back_s())

    def _taken(self) -> list[_Waiting[Asked, Given]]:
        """What is worked on next: one of each line in turn."""
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
