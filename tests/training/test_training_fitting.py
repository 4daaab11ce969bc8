"""The training loop: killed at any moment it goes on as if nothing had been."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import fit_run
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from paramcast.training.fitting import Schedule, TrainingDivergedError, fit


def test_killed_at_random_moments_it_ends_at_the_same_parameters(tmp_path: Path) -> None:
    whole = fit_run.run(tmp_path / "whole.safetensors").state_dict()
    checkpoint, out = tmp_path / "killed.safetensors", tmp_path / "out.safetensors"
    command = [sys.executable, str(Path(fit_run.__file__)), str(checkpoint), str(out)]
    rng, steps = np.random.default_rng(), []
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            process.stdout.readline()
            before = step_of(checkpoint)
            while process.poll() is None and step_of(checkpoint) < before + 4:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        steps.append(step_of(checkpoint))  # read whole: a kill in the middle of a write leaves the old file
    assert steps == sorted(steps)
    subprocess.run(command, check=True, capture_output=True)
    resumed = load_file(out)
    assert resumed.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


def step_of(checkpoint: Path) -> int:
    return int(load_file(checkpoint)["progress"][0]) if checkpoint.exists() else 0


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = fit_run.run(tmp_path / "c.safetensors")
    written = (tmp_path / "c.safetensors").stat().st_mtime_ns
    again = fit_run.run(tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").stat().st_mtime_ns == written
    assert not again.training
    for ours, theirs in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_best_state_is_kept_and_the_first_takes_part(tmp_path: Path) -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)

    def loss(rng: np.random.Generator) -> torch.Tensor:
        return (module(torch.ones(1, 1)) - 1).square().mean()

    schedule = Schedule(20, 5, rate=0.1)
    kept = fit("worse", module, loss, lambda: -abs(module.weight.item()), schedule, 0, tmp_path / "a")
    assert kept == 0
    assert module.weight.item() == 0
    best = fit("better", module, loss, lambda: module.weight.item(), schedule, 0, tmp_path / "b")
    assert best == module.weight.item() > 0.3


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    with pytest.raises(TrainingDivergedError, match=r"the loss is nan at step 0; lower the rate"):
        fit(
            "run",
            module,
            lambda _: module.weight.sum() * torch.nan,
            lambda: 0.0,
            Schedule(3, 1),
            0,
            tmp_path / "c",
        )
    assert not (tmp_path / "c").exists()


def test_rates_rise_and_fall() -> None:
    schedule = Schedule(100, 10, rate=2.0)
    rates = [schedule.rate_at(step) for step in range(100)]
    assert max(rates) == 2.0
    assert rates.index(max(rates)) in (9, 10)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize("may_stay", [True, False])
def test_the_state_before_the_first_step_is_kept_only_if_it_may_stay(tmp_path: Path, may_stay: bool) -> None:
    module = nn.Linear(2, 1)
    before = module.weight.detach().clone()

    def validate() -> float:
        return -float((module.weight - before).abs().sum())

    best = fit(
        "worse with every step",
        module,
        lambda _: module(torch.ones(4, 2)).square().mean(),
        validate,
        Schedule(4, 1),
        seed=0,
        checkpoint=tmp_path / "c.safetensors",
        may_stay=may_stay,
    )
    assert torch.equal(module.weight, before) == may_stay
    assert (best == 0) == may_stay
