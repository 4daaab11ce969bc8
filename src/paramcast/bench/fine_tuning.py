"""Cost of fine-tuning on the device instead: milliseconds, products and memory of a step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paramcast.bench.rows import in_turns, row, time_row
from paramcast.device import DeviceRuntime
from paramcast.methods.meter import measure
from paramcast.video.training.model import TrainedModel

CLIPS, QUESTIONS = 8, 8
"""Labeled clips of a step, and questions about each clip."""

LABELS = CLIPS * QUESTIONS


def fine_tuning_rows(
    model: TrainedModel, swap: Callable[[], object], seed: int, rounds: int
) -> list[dict[str, Any]]:
    """Measure a full-batch step of Adam on 64 labels, of the answer head and of all heads, against a swap.

    The trunks' features are given: they are computed once, and an adapting device computes them too. The code
    of torch, some hundred megabytes, is not counted.

    Args:
        model: For questions.
        swap: Checks, tries and applies an update.
        seed: Seed of the made-up features and labels.
        rounds: Timed steps.
    """
    steps = {f"fine_tuning_step_{of}": _step(model, of, seed) for of in ("head", "all")}
    times = in_turns("fine-tuning", {"swap": swap, **steps}, rounds)
    rows = []
    for name, step in steps.items():
        work = measure(step)
        rows += [
            time_row(name, times, "swap"),
            row(f"{name}_macs", work.macs, "products"),
            row(f"{name}_memory", work.peak_bytes / 1e6, "MB"),
        ]
    return rows


def _step(model: TrainedModel, of: str, seed: int) -> Callable[[], Tensor]:
    """Return a step on a copy of the base model; a first step has made the optimizer's state."""
    config, rng = model.config, np.random.default_rng(seed)
    module = copy.deepcopy(model.base).train()
    trained = list((module.get_submodule("head") if of == "head" else module).parameters())
    module.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(trained, lr=1e-4)
    frames = torch.from_numpy(rng.normal(size=(CLIPS, config.frames, config.image_dim)).astype(np.float32))
    texts = torch.from_numpy(rng.normal(size=(CLIPS, QUESTIONS, config.text_dim)).astype(np.float32))
    answers = torch.from_numpy(rng.integers(0, len(config.answers), LABELS))
    mask = torch.ones(CLIPS, config.frames, dtype=torch.bool)

    def step() -> Tensor:
        optimizer.zero_grad()
        logits = module(frames, mask, texts).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, answers)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    step()
    return step


def observation_row(runtime: DeviceRuntime, frames: np.ndarray, question: str, rounds: int) -> dict[str, Any]:
    """Time the observation of a support clip without an answer: one frame and its queries."""

    def answer() -> None:
        runtime.clear_cache()
        runtime.answer(frames, [question])

    def observe() -> None:
        runtime.clear_cache()
        runtime.observe(frames, [question])

    calls: dict[str, Callable[[], object]] = {"answer": answer, "observe": observe}
    return time_row("observe", in_turns("observing", calls, rounds), "answer")
