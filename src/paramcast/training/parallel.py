"""Independent jobs of one run in parallel processes: folds, conditions, controls."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch

from paramcast.errors import ParamcastError

T = TypeVar("T")
_PARENT_DIED = 1  # PR_SET_PDEATHSIG of Linux's prctl
_line: int | None = None


class JobKilledError(ParamcastError):
    """The process of a job ended without a result."""


def bar_line() -> int | None:
    """Return the terminal line for the progress bars of the present job; None outside of jobs."""
    return _line


def run_parallel(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Run jobs that do not depend on each other, one process per core, and return their results in order.

    The processes are forked, so each job sees this process as it is when the job starts, and shares its
    memory. A job's changes are lost with its process: a job must return its results, which are pickled, or
    write them to a file. Where forking is useless or unsafe, the jobs run in this process, one after another:
    on one core, outside of Linux, with CUDA in use, and within a job.

    Raises:
        JobKilledError: The process of a job was killed, for example because memory ran out.
        Exception: The error of the first job that failed; the other jobs are stopped.
    """
    workers = min(len(jobs), _cores())
    on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if workers < 2 or _line is not None or on_gpu or multiprocessing.current_process().daemon:
        return run_in_turn(jobs)
    import_module("torch._dynamo")  # else each job that makes an optimizer imports it, for 1.5 s
    results: dict[int, T] = {}
    running: dict[Connection, tuple[int, Any]] = {}
    waiting = list(range(len(jobs)))
    try:
        with _safe_forks():
            while waiting or running:
                while waiting and len(running) < workers:
                    place = waiting.pop(0)
                    reader, process = _start(jobs[place], place)
                    running[reader] = place, process
                for ready in wait(list(running)):
                    assert isinstance(ready, Connection)
                    place, process = running.pop(ready)
                    results[place] = _result(ready, process)
    finally:
        for _, process in running.values():
            process.kill()
            process.join()
    return [results[place] for place in range(len(jobs))]


def _cores() -> int:
    """Return the number of cores for jobs: those of this process, and at most OMP_NUM_THREADS."""
    if sys.platform != "linux":
        return 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0))
    return min(cores, int(limit)) if limit.isdecimal() else cores


def run_in_turn(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Run jobs in this process, one after another, and return their results."""
    return [job() for job in jobs]


def _start(job: Callable[[], object], place: int) -> tuple[Connection, Any]:
    """Start a job; return the connection that its result comes from, and its process."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, place, writer, os.getpid()))
    process.start()
    writer.close()
    return reader, process


def _result(reader: Connection, process: Any) -> Any:
    try:
        done, value = reader.recv()
    except EOFError:
        process.join()
        raise JobKilledError(
            f"a process of this run ended with code {process.exitcode} before it had a result; if memory ran "
            "out, free some or use fewer cores (taskset), and start the run again"
        ) from None
    finally:
        reader.close()
    process.join()
    if not done:
        raise value
    return value


@contextmanager
def _safe_forks() -> Iterator[None]:
    """Prepare forks so that a job uses no object that needs threads of this process.

    A forked process has none of these threads. A decoder that is freed in a job would wait for them. So
    garbage is collected before the forks, and a job's collector ignores objects that are older than the job.
    Warnings that threads may hold locks are silenced: these threads are idle workers of numerical libraries,
    and a job uses one thread.
    """
    gc.collect()
    gc.freeze()
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ.setdefault(name, "false")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        gc.unfreeze()
        if before is None:
            del os.environ[name]


def _work(job: Callable[[], object], place: int, writer: Connection, parent: int) -> None:
    """Run a job in its process, with one thread. The process ends at once with Ctrl-C and with its parent."""
    global _line
    _line = place
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before prctl was called
        os.kill(os.getpid(), signal.SIGKILL)
    torch.set_num_threads(1)
    try:
        answer: tuple[bool, object] = True, job()
    except BaseException as error:
        answer = False, error
    writer.send(answer)
