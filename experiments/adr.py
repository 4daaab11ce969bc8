"""Value of the ADR for its bytes: whether its intervals are correct, and what updates gain by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from experiments.options import devices_option, quick_option, to_train
from paramcast.bench.rows import row, rows_table
from paramcast.bench.variants import (
    METRICS,
    SUPPORT,
    TestDevices,
    interval_row,
    one_by_one,
    share,
)
from paramcast.cli.bench.options import data_option, task_option, tell
from paramcast.cli.common import json_option, seed_option
from paramcast.hypernet.adr import AnchorReasoner, Gaussian, least_squares, mixed_cdf, mixed_log_density
from paramcast.video.data.collection import Collection
from paramcast.video.training.arrays import ClipData
from paramcast.video.training.bank import Bank
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.pipeline import train_variants
from paramcast.video.training.views import Views

DRAWS = 256
"""Number of draws of z for the prediction of a clip."""

COVERED = 0.9
_CLIPS_AT_ONCE = 64

ANCHORS = (2, 4)
"""Numbers of frames of a clip, besides one."""


def bench_adr(
    collection: Collection, options: TrainingOptions, folder: Path, *, devices: int, seed: int
) -> list[dict[str, Any]]:
    """Train the adaptors, or resume an earlier run, and measure.

    Args:
        collection: Collection of training and test, in parts that share no clip.
        options: Options of the default adaptor; the others differ only in their evidence.
        folder: Keeps the adaptors, see `train_variants`.
        devices: Number of test devices.
        seed: Seed of the test devices.

    Raises:
        InputError: The collection has too few clips.
    """
    several = {f"reasoner, {count} anchors": replace(options, anchors=count) for count in ANCHORS}
    models = train_variants(
        collection,
        folder,
        {
            "reasoner": options,
            "anchor": replace(options, evidence="anchor"),
            "clip": replace(options, evidence="clip"),
            **several,
        },
    )
    default = models["reasoner"]
    known = TestDevices.load(default, collection, devices, seed)
    bank, clips, _ = Views(
        collection,
        default.config.clips["train"],
        (),
        default.task,
        default.answer_numbers,
        default.config.categories,
    ).load(default.store(collection))
    spoilt = [clip for device in known.devices if device.device.cameras for clip in device.clips]
    rows = calibration_rows(default, (bank, clips), (known.bank, known.clips))
    rows += calibration_rows(default, (bank, clips), (known.bank, spoilt), "_camera")
    return rows + gain_rows(models, known)


def calibration_rows(
    model: TrainedModel,
    training: tuple[Bank, Sequence[ClipData]],
    held_out: tuple[Bank, Sequence[ClipData]],
    suffix: str = "",
) -> list[dict[str, Any]]:
    """Measure how often the ADR's intervals hold a clip's mean feature, and its likelihood.

    The likelihood is compared with that of fitted Gaussians.

    Args:
        model: With an ADR.
        training: Clips that the Gaussians are fitted on.
        held_out: Clips that are predicted.
        suffix: Ending of the rows' names.
    """
    assert model.adaptor.reasoner
    fitted, asked = (model.table(bank).pairs(clips) for bank, clips in (training, held_out))
    held, density = judge(model.adaptor.reasoner, *asked)
    inside, chance = held.mean(0), math.sqrt(COVERED * (1 - COVERED) / len(held))
    rows = [
        row(f"clips{suffix}", len(held), "clips"),
        row(f"coverage{suffix}", 100 * inside.mean().item(), "% of clips in intervals of 90 %"),
        row(f"coverage_spread{suffix}", 100 * inside.std().item(), "points (s.d. over dimensions)"),
        row(f"coverage_spread_by_chance{suffix}", 100 * chance, "points (s.d. over dimensions)"),
    ]
    likely = {"reasoner": density} | others(fitted, asked)
    for name, density in likely.items():
        rows.append(interval_row(f"nll_{name}{suffix}", -density.mean(1).numpy(), "nats a dimension"))
    for name in list(likely)[1:]:
        saved = (likely["reasoner"] - likely[name]).mean(1).numpy()
        rows.append(interval_row(f"nll_saved_on_{name}{suffix}", saved, "nats a dimension"))
    return rows


def judge(reasoner: AnchorReasoner, anchors: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Predict clips (N, U) from their anchors (N, U), by `DRAWS` draws of z each.

    Returns:
        (N, U), 1 where the central interval holds the clip, else 0; it uses the mixture's distribution
        function, so clips are not sampled. And log densities (N, U).
    """
    edge, held, densities = (1 - COVERED) / 2, [], []
    for anchor, clip in zip(*(torch.split(each, _CLIPS_AT_ONCE) for each in (anchors, clips)), strict=True):
        with torch.no_grad():
            found = reasoner.eval().predict(anchor, DRAWS)
        below = mixed_cdf(found, clip)
        held.append(((below > edge) & (below < 1 - edge)).double())
        densities.append(mixed_log_density(found, clip))
    return torch.cat(held), torch.cat(densities)


def others(training: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Compute log densities (N, U) of held-out clips by Gaussians that are fitted on training clips.

    Args:
        training: Anchors and clips, (M, U) each.
        held_out: Anchors and clips, (N, U) each.
    """
    anchors, clips = training
    gain = least_squares(anchors, clips)
    means = {
        "plain": (clips.mean(0).expand_as(clips), clips.mean(0).expand_as(held_out[1])),
        "anchor": (anchors, held_out[0]),
        "shrunk_anchor": (gain * anchors, gain * held_out[0]),
    }
    found = {}
    for name, (there, here) in means.items():
        logvar = (clips - there).square().mean(0).clamp(min=1e-6).log()
        found[name] = mixed_log_density(Gaussian(here[None], logvar.expand_as(here)[None]), held_out[1])
    return found


def gain_rows(models: Mapping[str, TrainedModel], known: TestDevices) -> list[dict[str, Any]]:
    """Measure the gains of updates by each evidence over the better of base and constant, and its bytes."""
    default = models["reasoner"]
    reference = known.reference("all", default)
    gains = {
        name: known.scores(name, model, one_by_one(known.packages(model))) - reference
        for name, model in models.items()
    }
    best = float(gains["clip"].mean())
    rows = [interval_row(f"reference_{METRICS[default.config.task].name}", reference, "%")]
    for name, gain in gains.items():
        ratio = share(float(gain.mean()), best)
        rows.append(interval_row(f"gain_{name}", gain, "points", "gain_clip", ratio))
    for name in ("anchor", "clip"):
        rows.append(interval_row(f"reasoner_over_{name}", gains["reasoner"] - gains[name], "points"))
    for name, model in models.items():
        up = known.bytes_up(model) / SUPPORT
        rows.append(row(f"bytes_up_{name}", up, "bytes a clip, 8 in a request"))
    return rows


@click.command(name="adr", context_settings={"show_default": True})
@data_option
@task_option
@devices_option
@quick_option
@seed_option
@json_option
def command(
    data: Path | None, task: str, devices: int, quick: bool, seed: int, json_file: Path | None
) -> None:
    """Measure the value of the ADR: its intervals, and gains without it, with it and with whole clips.

    A stopped run is resumed.
    """
    training = to_train(data, task, quick, seed)
    rows = bench_adr(*training, devices=devices, seed=seed)
    tell(rows_table(rows), rows, seed, json_file)
