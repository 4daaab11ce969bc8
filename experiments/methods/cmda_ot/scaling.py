"""`python -m experiments cmda_ot_scaling`: seconds and memory by number of samples."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from paramcast.methods.cmda_ot.estimator import CMDAOT
from paramcast.methods.cmda_ot.transport import TransportSettings, transport
from paramcast.methods.commandline import json_option
from paramcast.results import write_results

SIZES = (1_000, 10_000, 100_000)
CLASSES, FEATURES = 10, 10
SOURCES, TARGET_SHARE = 2, 0.1
"""Sources of equal size in a fit, and share of all samples that is the target."""


def blobs(rows: int, shift: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw (rows, FEATURES) float64 and (rows,) int: a blob for each class, moved by `shift` deviations."""
    labels = np.arange(rows) % CLASSES
    X = 4 * np.eye(CLASSES, FEATURES)[labels] + rng.normal(size=(rows, FEATURES)) + shift
    return X, labels


def transported(samples: int) -> float:
    """Transport `samples` to the same number; return the accuracy in percent of the transported labels."""
    rng = np.random.default_rng(0)
    (source, labels), (target, truth) = blobs(samples, 0.0, rng), blobs(samples, 1.0, rng)
    _, votes, _ = transport(source, labels, target, target, CLASSES, TransportSettings(), rng)
    return 100 * float((votes.argmax(1) == truth).mean())


def fitted(samples: int) -> float:
    """Fit CMDA-OT with its defaults on `samples` in all; return the accuracy in percent on the target."""
    rng = np.random.default_rng(0)
    size = int(samples * (1 - TARGET_SHARE) / SOURCES)
    parts = [(number, *blobs(size, float(number), rng)) for number in range(1, SOURCES + 1)]
    parts.append((-1, *blobs(samples - SOURCES * size, 0.0, rng)))
    X, y = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
    domain = np.repeat([part[0] for part in parts], [len(part[1]) for part in parts])
    model = CMDAOT().fit(X, y, sample_domain=domain)
    return 100 * float(model.score(X[domain < 0], y[domain < 0]))


MEASURED = {"transport": transported, "fit": fitted}


def row(name: str, samples: int) -> dict[str, Any]:
    """Measure in this process, which must be new, since a process's peak of memory never falls."""
    torch.set_num_threads(1)
    before, start = _peak_mb(), time.process_time()
    accuracy = MEASURED[name](samples)
    return {
        "name": name,
        "samples": samples,
        "seconds": round(time.process_time() - start, 3),
        "peak_mb": round(_peak_mb(), 1),
        "before_mb": round(before, 1),
        "accuracy": round(accuracy, 2),
    }


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


@click.command(name="cmda_ot_scaling")
@click.option("--samples", "sizes", multiple=True, type=click.IntRange(100), default=SIZES, show_default=True)
@json_option
def command(sizes: tuple[int, ...], json_file: Path | None) -> None:
    """Measure CPU seconds and peak memory of one transport, and of a whole fit, each in its own process."""
    rows = []
    for name in MEASURED:
        for samples in sizes:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(row, (name, samples)))
            each = rows[-1]
            click.echo(
                f"{name:10} {samples:8} samples  {each['seconds']:8.1f} s  {each['peak_mb']:8.1f} MB "
                f"({each['before_mb']:.1f} before)  accuracy {each['accuracy']:6.2f}"
            )
    if json_file:
        typed = "python -m experiments cmda_ot_scaling" + "".join(f" --samples {size}" for size in sizes)
        write_results(json_file, typed, 0, rows)
