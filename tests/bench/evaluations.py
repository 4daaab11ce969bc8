"""A made-up evaluation, and its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paramcast.bench.report import write_report
from paramcast.bench.rows import evaluation_rows
from paramcast.results import results
from paramcast.training.controls import Metric, Result
from paramcast.video.shifts.cameras import CAMERA_KINDS, Camera
from paramcast.video.shifts.fleet import Device, Fleet
from paramcast.video.shifts.vocabulary import Vocabulary
from paramcast.video.training.evaluate import Evaluation

COMMAND = "evaluate --model 'a <b>' --json F"


def evaluation(support_sizes: tuple[int, ...] = (1, 4, 16)) -> Evaluation:
    rng = np.random.default_rng(0)
    devices = tuple(
        Device(
            id=f"test-{number:04d}",
            split="test",
            support=("a",),
            query=("b",),
            cameras=(Camera(CAMERA_KINDS[number % 4], 0.5, 1),),
            vocabulary=Vocabulary(1, 0.7) if number % 2 else None,
            categories={"kitchen": 0.75, "road": 0.25},
            collection="world",
        )
        for number in range(12)
    )
    results = []
    for metric in (Metric("r@10", "collection"), Metric("r@1", "device")):
        for support in support_sizes:
            base = rng.normal(40, 5, 12)
            values = {name: base + rng.normal(1, 2, 12) for name in ("constant", "shuffled", "own", "oracle")}
            ids = tuple(device.id for device in devices)
            results.append(Result(metric, support, ids, {"base": base, **values}))
    return Evaluation(Fleet(devices), tuple(results))


def page(path: Path, made: Evaluation, with_costs: bool = True) -> str:
    cost = {
        "labels": 0,
        "bytes_up": 700,
        "bytes_down": 1400,
        "bytes_per_query": {"1": 2100.0, "10": 210.0, "100": 21.0, "1000": 2.1},
        "device_ms": 50.0,
        "cloud_ms": 2.0,
        "device_peak_mb": 300.0,
        "device_macs": 3_000_000_000,
        "leaves_device": ["features"],
    }
    costs = {each.support: cost | {"bytes_up": 400 + 260 * each.support} for each in made.results}
    rows = evaluation_rows(made.results, "retrieval", "category+camera", costs if with_costs else None)
    write_report(path, results(COMMAND, 5, rows), made)
    return path.read_text(encoding="utf-8")
