"""Accuracy against bytes: every form of update in every quantization, on the same devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from experiments.options import devices_option, quick_option, to_train
from paramcast.bench.table import align
from paramcast.bench.variants import (
    METRICS,
    SHIFT,
    SUPPORT,
    TestDevices,
    interval_row,
    one_by_one,
    share,
)
from paramcast.cli.bench.options import data_option, task_option, tell
from paramcast.cli.common import FILE, json_option, seed_option, typed_command
from paramcast.protocol import Package, make_key, open_package, public_key_hex, seal
from paramcast.protocol.quantize import QUANTIZATIONS
from paramcast.results import results
from paramcast.training.statistics import interval
from paramcast.video.data.collection import Collection
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.pipeline import train_variants

FORMS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "full": ("full", {}),
    "residual": ("residual", {}),
    "lowrank 4": ("lowrank", {"rank": 4}),
    "lowrank 1": ("lowrank", {"rank": 1}),
    "codes 400": ("codes", {"count": 400}),
    "codes 192": ("codes", {"count": 192}),
    "codes 64": ("codes", {"count": 64}),
    "codes 16": ("codes", {"count": 16}),
    "codes 8": ("codes", {"count": 8}),
}
"""Name -> form and its options, from the most bytes to the fewest."""

UP, DOWN, KEPT = 300, 600, 0.95
"""The target: at most this number of bytes a clip and an update keep this share of the best form's gain."""

_EXPIRES = 2_000_000_000  # any time, since all times take the same number of bytes


def bench_bytes(
    collection: Collection, options: TrainingOptions, folder: Path, *, devices: int, seed: int
) -> list[dict[str, Any]]:
    """Train an adaptor for each form, or resume an earlier run, and measure.

    Args:
        collection: Collection of training and test, in parts that share no clip.
        options: Options of the training.
        folder: Keeps the adaptors, see `train_variants`.
        devices: Number of test devices.
        seed: Seed of the test devices.

    Returns:
        A row for each form and quantization: the gain over the better of base and constant control, with its
        interval; its share of the highest gain of all rows as `ratio`; the score itself; bytes up and down.

    Raises:
        InputError: The collection has too few clips.
    """
    models = train_variants(
        collection,
        folder,
        {
            name: replace(options, form=form, form_options=dict(settings))
            for name, (form, settings) in FORMS.items()
        },
    )
    known = TestDevices.load(next(iter(models.values())), collection, devices, seed)
    return _with_shares(_form_rows(models, known))


def _form_rows(models: Mapping[str, TrainedModel], known: TestDevices) -> Iterable[dict[str, Any]]:
    for name, model in models.items():
        reference, packages = known.reference(name, model), known.packages(model)
        up = known.bytes_up(model)
        for quantization in QUANTIZATIONS:
            delivered, down = deliver(model, packages, known, quantization)
            title = f"{name}, {quantization}"
            scores = known.scores(title, model, delivered)
            yield interval_row(title, scores - reference, "points") | {
                "task": model.config.task,
                "shift": SHIFT,
                "metric": METRICS[model.config.task].name,
                "devices": len(known.devices),
                "support": SUPPORT,
                "form": name,
                "quantization": quantization,
                "reference": interval(reference).json(),
                "own": interval(scores).json(),
                "bytes_up": round(up),
                "bytes_up_a_clip": round(up / SUPPORT, 1),
                "bytes_down": round(down),
            }


def deliver(
    model: TrainedModel, packages: dict[str, Tensor], known: TestDevices, quantization: str
) -> tuple[list[dict[str, Tensor]], float]:
    """Seal updates (N, *shape) and open them again as devices do.

    Returns:
        The opened updates, N of (1, *shape), and the mean bytes of a sealed update.
    """
    key, digest, shapes = make_key(), model.sha256(), model.adaptor.adapted.adapter.shapes
    delivered, sizes = [], []
    for device, values in zip(known.devices, one_by_one(packages), strict=True):
        name, tensors = device.device.id, {tensor: value[0].numpy() for tensor, value in values.items()}
        package = Package(name, digest, 1, _EXPIRES, model.config.form, quantization, tensors, _EXPIRES)
        sealed = seal(package, key)
        opened = open_package(
            sealed, public_key_hex(key), device=name, model=digest, after=0, now=0, expected=shapes
        )
        delivered.append({tensor: torch.from_numpy(value)[None] for tensor, value in opened.tensors.items()})
        sizes.append(len(sealed))
    return delivered, float(np.mean(sizes))


def _with_shares(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = list(rows)
    best = max(rows, key=lambda row: row["value"])
    for row in rows:
        ratio = share(row["value"], best["value"])
        row |= {"against": best["name"], "ratio": None if ratio is None else round(ratio, 4)}
    return rows


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Conclude in one sentence whether updates of codes reach the target."""
    small = [
        row
        for row in rows
        if row["form"].startswith("codes") and row["bytes_up_a_clip"] <= UP and row["bytes_down"] <= DOWN
    ]
    asked = (
        f"codes of at most {UP} bytes up a clip and {DOWN} down should keep {100 * KEPT:.0f} % of the gain"
    )
    if not small:
        least = min(row["bytes_up_a_clip"] for row in rows)
        return f"Missed: {asked}, but a clip takes {least:.0f} bytes up."
    best = max(small, key=lambda row: row["value"])
    if best["ratio"] is None:
        return f"Not to be told: {asked}, but nothing gains."
    met = "Met" if best["ratio"] >= KEPT else "Missed"
    return (
        f"{met}: {asked} of the best form ({best['against']}); {best['name']} keep "
        f"{100 * best['ratio']:.0f} % at {best['bytes_up_a_clip']:.0f} bytes up a clip and "
        f"{best['bytes_down']:,} down."
    )


def bytes_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the rows for the terminal."""
    return align([["package", *BYTES_COLUMNS], *([row["name"], *cells(row)] for row in rows)])


BYTES_COLUMNS = ("score", "gain", "share of the best", "bytes up a clip", "bytes down")


def cells(row: Mapping[str, Any]) -> list[str]:
    """Format the cells of a row, in the order of `BYTES_COLUMNS`."""
    return [
        f"{row['own']['mean']:.1f}",
        f"{row['value']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]",
        "-" if row["ratio"] is None else f"{100 * row['ratio']:.0f} %",
        f"{row['bytes_up_a_clip']:.0f}",
        f"{row['bytes_down']:,}",
    ]


@click.command(name="bytes", context_settings={"show_default": True})
@data_option
@task_option
@devices_option
@quick_option
@seed_option
@json_option
@click.option("--html", "page_file", type=FILE, help="Write a page with a chart to this file.")
def command(
    data: Path | None,
    task: str,
    devices: int,
    quick: bool,
    seed: int,
    json_file: Path | None,
    page_file: Path | None,
) -> None:
    """Measure accuracy against bytes: every form of update in every quantization.

    A stopped run is resumed.
    """
    training = to_train(data, task, quick, seed)
    rows = bench_bytes(*training, devices=devices, seed=seed)
    tell(f"{bytes_table(rows)}\n\n{verdict(rows)}", rows, seed, json_file)
    if page_file is not None:
        from experiments.bytes_page import write_bytes_page  # here, since it imports this module

        write_bytes_page(page_file, results(typed_command(), seed, rows))
