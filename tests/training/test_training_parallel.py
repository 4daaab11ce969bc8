"""Jobs in parallel processes: what they see, what they give, how they fail and end."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from corners import Corners, corners

import paramcast as pc
from paramcast.training import parallel
from paramcast.training.fitting import TrainingDivergedError, one_thread
from paramcast.training.parallel import JobKilledError, run_in_turn, run_parallel

forks = pytest.mark.skipif(sys.platform != "linux", reason="jobs run in processes on Linux alone")


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be three cores, whatever the machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("cores")
@forks
def test_results_come_in_order_from_other_processes() -> None:
    """Each job is a function over things of this process; more jobs than cores wait for a place."""
    weights = torch.arange(5.0)

    def job(place: int) -> tuple[int, float, int]:
        return place, float(weights[place]), os.getpid()

    found = run_parallel([partial(job, place) for place in range(5)])
    assert [(place, value) for place, value, _ in found] == [(n, float(n)) for n in range(5)]
    processes = {process for *_, process in found}
    assert os.getpid() not in processes
    assert len(processes) == 5


@pytest.mark.usefixtures("cores")
@forks
def test_a_job_changes_nothing_here() -> None:
    """The parameters of this process stay as they are, and so do those that other jobs see."""
    module = torch.nn.Linear(3, 1)
    before = module.weight.detach().clone()

    def job() -> bool:
        with one_thread():
            seen = torch.equal(module.weight.detach(), before)
            module(torch.ones(2, 3)).sum().backward()
            torch.optim.SGD(module.parameters(), 1.0).step()
        return seen and not torch.equal(module.weight.detach(), before)

    assert run_parallel([job, job]) == [True, True]
    assert torch.equal(module.weight.detach(), before)
    assert module.weight.grad is None


@pytest.mark.usefixtures("cores")
@forks
def test_the_first_error_is_raised_here() -> None:
    """It keeps its class, and the next jobs run as usual."""

    def fails() -> None:
        raise TrainingDivergedError("the loss is nan at step 3; lower the rate")

    with pytest.raises(TrainingDivergedError, match="at step 3"):
        run_parallel([lambda: None, fails])
    assert run_parallel([lambda: 1, lambda: 2]) == [1, 2]


@pytest.mark.usefixtures("cores")
@forks
def test_an_error_stops_the_other_jobs() -> None:
    """They would go on for minutes, and nobody would see why the run has not ended."""

    def fails() -> None:
        raise ValueError("no")

    start = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        run_parallel([partial(time.sleep, 600), fails, partial(time.sleep, 600)])
    assert time.monotonic() - start < 60


@pytest.mark.usefixtures("cores")
@forks
def test_a_killed_job_says_so() -> None:
    """As when memory runs out."""

    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(JobKilledError, match="code -9"):
        run_parallel([killed, lambda: None])


@pytest.mark.usefixtures("cores")
@forks
def test_jobs_within_a_job_run_in_its_process() -> None:
    """Else there would be more processes than cores."""

    def inner() -> int:
        return os.getpid()

    def outer() -> bool:
        return set(run_parallel([inner, inner])) == {os.getpid()}

    assert run_parallel([outer, outer]) == [True, True]


@pytest.mark.usefixtures("cores")
@forks
def test_a_job_frees_nothing_of_this_process(tmp_path: Path) -> None:
    """The destructor of a video decoder waits for threads, which no job has: the job would wait forever."""
    log = tmp_path / "freed"

    class Decoder:
        def __init__(self) -> None:
            self.itself = self  # freed by the garbage collector alone

        def __del__(self) -> None:
            with log.open("a") as lines:
                lines.write(f"{os.getpid()}\n")

    held, here = [Decoder()], os.getpid()
    Decoder()

    def job() -> None:
        del held[:]
        gc.collect()

    run_parallel([job, job])
    assert set(log.read_text().split()) == {str(here)}
    assert len(held) == 1


def test_openmp_s_limit_holds_for_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who allows one thread does not get several processes."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run_parallel([os.getpid, os.getpid]) == [os.getpid()] * 2


@pytest.mark.usefixtures("cores")
@forks
def test_models_are_the_same_as_without_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bases of folds and the hypernetworks of conditions, bit by bit."""

    def trained(folder: Path) -> str:
        torch.manual_seed(0)
        made = pc.adaptable(Corners(), ["first"], adapter=pc.Basis(4))
        made.fit(corners(4, 1), corners(2, 2), 8, base=True, folds=2, folder=folder)
        return made.fingerprint()

    several = trained(tmp_path / "several")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert trained(tmp_path / "one") == several


def test_one_core_runs_jobs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started, and the results are the same."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert run_parallel([os.getpid, os.getpid]) == run_in_turn([os.getpid, os.getpid]) == [os.getpid()] * 2
    assert parallel.bar_line() is None


@forks
def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Nothing goes on to write checkpoints beside the run that is started again."""
    code = """
import os, sys, time
from pathlib import Path
os.sched_getaffinity = lambda _: {0, 1}
os.environ.pop("OMP_NUM_THREADS", None)
from paramcast.training.parallel import run_parallel

def job():
    print(os.getpid(), flush=True)
    time.sleep(600)

run_parallel([job, job])
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    jobs = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while any(map(_runs, jobs)):
        assert time.monotonic() < deadline, "a job outlived its parent"
    parent.stdout.close()


def _runs(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
