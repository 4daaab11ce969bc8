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
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")
_PARENT_DIED = 1  # PR_SET_PDEATHSIG of Linux's prctl

# A forked process finds its jobs here: functions over models and data cannot be sent.
_jobs: Sequence[Callable[[], Any]] = ()
_line: int | None = None


def bar_line() -> int | None:
    """Return the line of the terminal for the progress bars of the present job, None outside of jobs."""
    return _line


def run_parallel(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Run jobs that do not depend on each other, one process per core, and return their results in order.

    A process is forked, so each job sees this process as it is now, and shares its memory. A job's changes
    are lost with its process: what it finds has to be in its result, which is pickled, or in a file. Jobs run
    here, one after another, where forking is of no use or not safe: on one core, outside of Linux, with CUDA
    in use, and within a job.

    Raises:
        Exception: The error of the first job that failed.
    """
    global _jobs
    workers = min(len(jobs), len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1)
    on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if workers < 2 or _jobs or on_gpu or multiprocessing.current_process().daemon:
        return run_in_turn(jobs)
    _jobs = jobs
    try:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(workers, context, _begin, (os.getpid(),)) as pool:
            with _safe_forks():
                running = [pool.submit(_run, place) for place in range(len(jobs))]
            try:
                return [each.result() for each in running]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    finally:
        _jobs = ()


def run_in_turn(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Run jobs here, one after another, and return their results."""
    return [job() for job in jobs]


@contextmanager
def _safe_forks() -> Iterator[None]:
    """Fork so that a job touches nothing of this process which needs the threads of this process.

    Garbage is collected before, and a job's collector leaves alone what is older than the job: a decoder that
    is freed in a job waits for threads which are not there. Warnings that threads may hold locks are silent:
    these threads are idle workers of numerical libraries, and a job uses one thread.
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


def _begin(parent: int) -> None:
    """Set up a process: one thread, no traceback after Ctrl-C, and an end with its parent."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it could be watched
        os.kill(os.getpid(), signal.SIGKILL)


def _run(place: int) -> Any:
    global _line
    _line = place
    return _jobs[place]()
