"""Request policies on streams whose domain changes at times that the device does not know.

A stream is the sequence of clips that one device sees: stretches of clips with different domains (words,
camera, mix of categories). Every clip is answered with the update that the device has before it observes the
clip, so no update is evaluated on a clip that it was made from. Settings are chosen on streams of validation
clips, once for all models and shifts, and evaluated on streams of clips that training never used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from paramcast.bench.ratios import share_interval
from paramcast.bench.table import align
from paramcast.cli.bench.options import (
    data_option,
    models_and_collection,
    models_option,
    seeds_option,
    shifts_option,
    tell,
)
from paramcast.cli.common import json_option, seed_option
from paramcast.device.policy import Always, Every, History, Never, OnDrift, RequestPolicy
from paramcast.device.support import MAX_CLIPS, Seen
from paramcast.errors import InputError
from paramcast.training.seeding import generator_for
from paramcast.training.statistics import interval
from paramcast.video.data.collection import Collection
from paramcast.video.shifts.fleet import Split, build_fleet
from paramcast.video.tasks.qa import answered_right
from paramcast.video.training.arrays import ClipData, DeviceData
from paramcast.video.training.bank import Bank
from paramcast.video.training.episodes import one_of
from paramcast.video.training.evaluate import test_clips
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.views import UplinkTable, Views

SHIFTS = ("vocabulary", "category+camera+vocabulary")
DOMAINS = 3
SHORTEST, LONGEST = 40, 120
"""Number of clips of a stretch, drawn evenly; fewer where a device has no more."""

BUDGET = 0.1
"""Largest share of clips followed by a request, for a policy to be chosen."""

Make = Callable[[], RequestPolicy]
REFERENCES: dict[str, Make] = {"always-8": lambda: Always(8), "always-16": Always}
REGULAR: dict[str, Make] = {"every-10": lambda: Every(10), "every-20": lambda: Every(20)}
GRID: dict[str, Make] = {
    f"on-drift high={high} first={first} support={support} refresh={refresh}": (
        lambda high=high, first=first, support=support, refresh=refresh: OnDrift(  # type: ignore[misc]
            high, 0.75 * high, first, support, refresh
        )
    )
    for high, first, support, refresh in product((1.6, 2.0, 2.5, 3.0), (1, 2), (8, 16), (None, 40, 30, 20))
}

Asked = tuple[int, int]
"""A request: after which number of clips, and with how many of the last clips."""


@dataclass(frozen=True)
class Stream:
    """Sequence of clips of one device, each with its domain and with the runtime's record of it."""

    clips: tuple[ClipData, ...]
    domains: tuple[DeviceData, ...]
    seen: tuple[Seen, ...]


@dataclass(frozen=True)
class Streams:
    """Streams of one model, split and shift, with the data that their evaluation needs."""

    model: TrainedModel
    bank: Bank
    table: UplinkTable
    streams: tuple[Stream, ...]


def bench_stream(
    models: Sequence[TrainedModel],
    collection: Collection,
    *,
    streams: int,
    seed: int,
    shifts: Sequence[str] = SHIFTS,
) -> list[dict[str, Any]]:
    """Measure rows of every policy under every shift, and under all shifts together.

    Args:
        models: Trained on the collection for questions, with different seeds.
        collection: Has clips that the models were not trained on.
        streams: Number of streams of each model and shift, for the choice and again for the evaluation.
        seed: Seed of the streams.
        shifts: Differences between the domains of a stream; see `training.evaluate.evaluate`.

    Raises:
        InputError: A model is not for questions, or the collection is too small.
    """
    for model in models:
        if not model.task.has_answers:
            raise InputError("streams are measured with models for questions (--task qa or choice)")
    drawn = [
        [draw_streams(model, collection, split, shift, streams, seed) for shift in shifts for model in models]
        for split in ("validation", "test")
    ]
    reference, chosen = _choose(drawn[0])
    policies = {
        "never": Never,
        "always": REFERENCES[reference],
        **REGULAR,
        "default": OnDrift,
        "on-drift": GRID[chosen],
    }
    settings = {"always": reference, "on-drift": chosen}
    judged = [judge(group, policies) for group in tqdm(drawn[1], desc="judge", unit="group", disable=None)]
    of_shift = {
        shift: judged[place * len(models) : (place + 1) * len(models)] for place, shift in enumerate(shifts)
    }
    return [
        _row(name, shift, groups, settings.get(name, name), len(models))
        for shift, groups in {**of_shift, "all": judged}.items()
        for name in policies
    ]


def draw_streams(
    model: TrainedModel, collection: Collection, split: Split, shift: str, count: int, seed: int
) -> Streams:
    """Draw streams of clips that training never used (`test`), or that only selected among its states."""
    pool = test_clips(model, collection) if split == "test" else list(model.config.clips[split])
    fleet = build_fleet(
        collection,
        shifts=shift.split("+"),
        devices={split: DOMAINS * count},
        seed=seed,
        support=1,
        query=LONGEST - 1,
        pools={split: pool},
        usable=model.task.usable,
    )
    bank, _, data = Views(
        collection,
        [],
        fleet.devices,
        model.task,
        model.answer_numbers,
        model.config.categories,
    ).load(model.store(collection))
    table = model.table(bank)
    rng = generator_for("stream", split, shift, seed)
    made = []
    for first in range(0, len(data), DOMAINS):
        parts = [
            (clip, device)
            for device in data[first : first + DOMAINS]
            for clip in device.clips[: rng.integers(SHORTEST, LONGEST + 1)]
        ]
        clips, domains = zip(*parts, strict=True)
        made.append(Stream(clips, domains, tuple(remembered(table, clip) for clip in clips)))
    return Streams(model, bank, table, tuple(made))


def requests(stream: Stream, policy: RequestPolicy) -> list[Asked]:
    """Return the requests of the policy along a stream, with a cloud that always answers."""
    asked: list[Asked] = []
    for observed in range(1, len(stream.seen) + 1):
        recent = stream.seen[max(0, observed - MAX_CLIPS) : observed]
        since = observed - (asked[-1][0] if asked else 0)
        if wanted := policy.wants(History(observed, since, recent, bool(asked))):
            asked.append((observed, wanted))
    return asked


@dataclass(frozen=True)
class Judged:
    """Results of a policy on N streams, (N,) each: accuracy in percent, share of clips before a request."""

    accuracy: np.ndarray
    share: np.ndarray


def judge(group: Streams, policies: Mapping[str, Make]) -> dict[str, Judged]:
    """Run every policy along every stream, and answer every question on the way."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in policies}
    for stream in group.streams:
        plans = {name: requests(stream, make()) for name, make in policies.items()}
        score = _Scores(group, stream, list(plans.values()))
        for name, plan in plans.items():
            found[name].append((score.accuracy(plan), len(plan) / len(stream.clips)))
    return {name: Judged(*np.array(pairs).T) for name, pairs in found.items()}


class _Scores:
    """Accuracy of plans along one stream.

    An update answers the clips after its request, until the next update. Its right answers are counted once
    for all plans, up to the longest time that any plan keeps it.
    """

    def __init__(self, group: Streams, stream: Stream, plans: Sequence[Sequence[Asked]]) -> None:
        self._group, self._stream = group, stream
        ends: dict[Asked | None, int] = {}
        for plan in plans:
            for asked, end in self._kept(plan):
                ends[asked] = max(end, ends.get(asked, 0))
        made = sorted(asked for asked in ends if asked)
        packages: dict[Asked | None, dict[str, Tensor] | None] = {None: None}
        if made:
            supports = [stream.clips[at - count : at] for at, count in made]
            truths = [stream.domains[at - 1].truth for at, _ in made]
            several = group.model.adaptor.generate(group.table.context(supports, truths))
            packages |= {asked: one_of(several, place) for place, asked in enumerate(made)}
        self._right = {asked: self._count(packages[asked], _start(asked), end) for asked, end in ends.items()}

    def accuracy(self, plan: Sequence[Asked]) -> float:
        """Compute the percentage of right answers of the stream, each clip under the update before it."""
        right = sum(self._right[asked][end - _start(asked)] for asked, end in self._kept(plan))
        return 100 * float(right) / sum(len(clip.items) for clip in self._stream.clips)

    def _kept(self, plan: Sequence[Asked]) -> list[tuple[Asked | None, int]]:
        """Return the updates of a plan, each with its last clip; the first is the base model (None)."""
        return list(zip([None, *plan], [*(at for at, _ in plan), len(self._stream.clips)], strict=True))

    def _count(self, values: dict[str, Tensor] | None, start: int, end: int) -> np.ndarray:
        """Count right answers (end - start + 1,) about the first 0, 1, ... clips from `start` to `end`."""
        clips = self._stream.clips[start:end]
        if not clips:
            return np.zeros(1)
        task, adapted, bank = self._group.model.task, self._group.model.adaptor.adapted, self._group.bank
        device = replace(self._stream.domains[start], clips=clips, support=0)
        with torch.no_grad(), adapted.use(values):
            outputs = task.outputs(adapted.replica, bank, task.asked(device, []))
        right = answered_right(outputs, device)
        questions = np.cumsum([0, *(len(clip.items) for clip in clips)])
        counts: np.ndarray = np.concatenate([[0], right.cumsum()])[questions]
        return counts


def _start(asked: Asked | None) -> int:
    """Return the first clip that an update may answer."""
    return asked[0] if asked else 0


def remembered(table: UplinkTable, clip: ClipData) -> Seen:
    """Make the runtime's record of a clip, without the features, which stay on the device."""
    texts = table.texts[clip.queries].mean(0, keepdims=True) if len(clip.queries) else table.texts[:0]
    return Seen(table.anchors[clip.row][0], table.text(texts))


def _choose(groups: Sequence[Streams]) -> tuple[str, str]:
    """Choose the better support of `always`, and the most accurate settings within the budget."""
    judged = [
        judge(group, REFERENCES | GRID) for group in tqdm(groups, desc="choose", unit="group", disable=None)
    ]

    def mean(name: str, what: str) -> float:
        return float(np.mean([getattr(found[name], what).mean() for found in judged]))

    cheapest = min(GRID, key=lambda name: mean(name, "share"))
    affordable = [name for name in GRID if mean(name, "share") <= BUDGET] or [cheapest]
    return (
        max(REFERENCES, key=lambda name: mean(name, "accuracy")),
        max(affordable, key=lambda name: mean(name, "accuracy")),
    )


def _row(
    name: str, shift: str, groups: Sequence[Mapping[str, Judged]], settings: str, models: int
) -> dict[str, Any]:
    """Compute a policy's accuracy, its share of requests, and its share of the gain of `always`.

    The share of the gain is None where the gain of `always` is not certainly above zero.
    """
    accuracy, never, always = (
        np.concatenate([found[which].accuracy for found in groups]) for which in (name, "never", "always")
    )
    asked = np.concatenate([found[name].share for found in groups])
    share = share_interval(accuracy - never, always - never)
    return {
        "name": f"stream_{name}",
        "shift": shift,
        "settings": settings,
        "models": models,
        "streams": len(accuracy),
        "accuracy": interval(accuracy).json(),
        "gain": interval(accuracy - never).json(),
        "share_of_gain": share.json() if share else None,
        "share_of_requests": interval(asked).json(),
    }


def stream_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the rows for a terminal."""
    head = ["shift", "policy", "settings", "accuracy %", "gain", "of the gain %", "asked after % of clips"]
    lines = [
        [
            row["shift"],
            row["name"].removeprefix("stream_"),
            row["settings"],
            f"{row['accuracy']['mean']:.1f}",
            _between(row["gain"], 1),
            _between(row["share_of_gain"], 100),
            f"{100 * row['share_of_requests']['mean']:.1f}",
        ]
        for row in rows
    ]
    return align([head, *lines])


def _between(found: Mapping[str, float] | None, scale: float) -> str:
    if found is None:
        return "nothing to gain"
    mean, low, high = (scale * found[name] for name in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


@click.command(name="stream", context_settings={"show_default": True})
@models_option
@data_option
@seeds_option
@click.option("--streams", default=6, type=click.IntRange(1), help="Streams for each model and shift.")
@shifts_option("a stream's domains", "vocabulary", "category+camera+vocabulary")
@seed_option
@json_option
def command(
    model_dirs: tuple[Path, ...],
    data: Path | None,
    seeds: int,
    streams: int,
    shifts: tuple[str, ...],
    seed: int,
    json_file: Path | None,
) -> None:
    """Compare request policies on streams whose domain changes at times that the device does not know."""
    models, collection = models_and_collection(model_dirs, data, range(seed, seed + seeds))
    rows = bench_stream(models, collection, streams=streams, seed=seed, shifts=shifts)
    tell(stream_table(rows), rows, seed, json_file)
