"""Comparison of adaptation methods: all on the same devices, tuned in the same way, with their costs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from paramcast.bench.ledger import REUSE
from paramcast.errors import InputError
from paramcast.files import check_same_run, write_json
from paramcast.methods.background import Background, Samples, load_samples
from paramcast.methods.base import TRIALS, Method, Settings, Support, Traffic
from paramcast.methods.meter import Work, measure
from paramcast.methods.registry import make_method
from paramcast.methods.support import support_of
from paramcast.training.controls import WORSE_BY, Metric, derangement
from paramcast.training.fitting import one_thread
from paramcast.training.seeding import generator_for, seed_from
from paramcast.training.statistics import interval
from paramcast.video.data.collection import Collection
from paramcast.video.tasks.base import Asked
from paramcast.video.training.arrays import DeviceData
from paramcast.video.training.evaluate import test_clips, test_fleet
from paramcast.video.training.model import TrainedModel

VALIDATION_DEVICES = 20

_FORMAT = 2  # version of the kept outcomes


@dataclass(frozen=True)
class CompareOptions:
    """Options of a comparison; a run that is resumed needs the same options.

    Attributes:
        shift: Shift by which devices differ, see `training.evaluate.evaluate`.
        devices: Number of test devices.
        support: Support clips of each device.
        labels: Labels of each device, for methods that take labels and have no fixed number.
        seed: Seed of everything.
    """

    shift: str
    devices: int
    support: int
    labels: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """Result of a method on the test devices.

    Attributes:
        method: Its name.
        note: See `Method.note`.
        settings: Settings that were chosen on validation devices.
        trials: Each with its settings and its mean score on validation devices.
        values: Metric -> (N,) one value for each device, in percent.
        hindsight: Metric -> the highest mean on test devices over all settings of the grid. It cannot be
            reached by a fair choice. Only for other collections than that of training, where tuning does not
            see the shift; else empty.
        cost: The ledger of one adaptation.
    """

    method: str
    note: str
    settings: dict[str, Any]
    trials: list[dict[str, Any]]
    values: dict[Metric, np.ndarray]
    hindsight: dict[Metric, float]
    cost: dict[str, Any]


def compare(
    model: TrainedModel,
    collection: Collection,
    trained_on: Collection,
    methods: Sequence[str],
    options: CompareOptions,
    folder: Path,
) -> list[Outcome]:
    """Run every method on the test devices of `evaluate`, after tuning it on validation devices.

    Validation devices are drawn from the model's validation clips under the same shift. If the test
    collection is not the collection of the training, no part of it may be used for tuning. Then the
    validation devices have the mix of shifts that the model's own adaptor was selected on.

    Args:
        model: Trained.
        collection: Collection of the test devices.
        trained_on: Collection of the training; may be the same.
        methods: Names; `compare_rows` needs 'base' among them.
        options: All other options.
        folder: Keeps the outcome of each method, so that a stopped run can be resumed. Base models that
            methods train are kept beside it, also for other runs on the same model.

    Raises:
        InputError: Too few clips, `trained_on` is another collection, or the folder holds a run with other
            options.
    """
    used = [*model.config.clips["train"], *model.config.clips["validation"]]
    if any(clip not in trained_on.by_id for clip in used):
        raise InputError(
            f"the model was trained on {model.config.collection!r}, of which {trained_on.root} "
            "lacks clips; methods are tuned on the training collection: name it with --trained-on"
        )
    names_of = {"collection": collection.name, "trained_on": trained_on.name}
    run = {"format": _FORMAT, "model": model.sha256(), **names_of, **asdict(options)}
    names = [name for name in methods if _kept(folder, name, run) is None]
    if names:
        with one_thread():
            arena = _Arena(model, collection, trained_on, options, folder.parent)
            for name in names:
                write_json(_part(folder, name), {"run": run, **_stored(arena.run(name))})
    outcomes = [_kept(folder, name, run) for name in methods]
    return [outcome for outcome in outcomes if outcome is not None]


class _Arena:
    """Devices for tuning and testing methods."""

    def __init__(
        self,
        model: TrainedModel,
        collection: Collection,
        trained_on: Collection,
        options: CompareOptions,
        folder: Path,
    ) -> None:
        self.model, self.options = model, options
        same = collection.root == trained_on.root
        shift = options.shift if same else None
        self.background = Background(model, trained_on, shift, options.seed, folder)
        fleet = test_fleet(model, collection, options.shift, options.devices, options.support, options.seed)
        self.test = load_samples(model, collection, test_clips(model, collection), fleet.devices)
        held = self.background.draw("validation", VALIDATION_DEVICES, options.support)
        gallery = [
            clip for clip in model.config.clips["validation"] if model.task.usable(trained_on.by_id[clip])
        ]
        self.validation = load_samples(model, trained_on, gallery, held)

    def run(self, name: str) -> Outcome:
        """Tune a method, then test it."""
        method, task = make_method(name, self.options.labels), self.model.task
        method.prepare(self.background)
        grid = method.grid(task.name)
        assert 1 <= len(grid) <= TRIALS, name
        held, tested = (self._supports(method, samples) for samples in (self.validation, self.test))
        trials: list[dict[str, Any]] = []
        for settings in grid if len(grid) > 1 else ():
            figures, _ = self._scores(name, method, settings, self.validation, held)
            score = float(np.mean([np.mean(list(device.values())) for device in figures]))
            trials.append({"settings": dict(settings), "score": score})
        best = max(trials, key=lambda trial: trial["score"])["settings"] if trials else dict(grid[0])
        values, taken = self._tested(name, method, best, tested)
        hindsight = {}
        if self.background.shift is None:
            others = [
                self._tested(name, method, settings, tested)[0] for settings in grid if settings != best
            ]
            hindsight = {
                metric: max(float(found[metric].mean()) for found in (values, *others)) for metric in values
            }
        cost = self._cost(method, best, tested[0], taken)
        return Outcome(name, method.note, best, trials, values, hindsight, cost)

    def _tested(
        self, name: str, method: Method, settings: Settings, supports: Sequence[Support]
    ) -> tuple[dict[Metric, np.ndarray], list[float]]:
        figures, taken = self._scores(name, method, settings, self.test, supports)
        return {metric: np.array([device[metric] for device in figures]) for metric in figures[0]}, taken

    def _supports(self, method: Method, samples: Samples) -> list[Support]:
        task, size = self.model.task, self.options.support
        found = [support_of(task, samples, device, size, method.labels) for device in samples.devices]
        if method.swapped:
            found = [found[place] for place in derangement(len(found), self.options.seed).tolist()]
        return found

    def _scores(
        self,
        name: str,
        method: Method,
        settings: Settings,
        samples: Samples,
        supports: Sequence[Support],
    ) -> tuple[list[dict[Metric, float]], list[float]]:
        """Return the values of each device, whose metrics may differ, and the ms of each adaptation."""
        figures, taken = [], []
        words = ", ".join(f"{key} {value}" for key, value in settings.items())
        bar = tqdm(
            zip(samples.devices, supports, strict=True),
            total=len(samples.devices),
            desc=f"{name} {words}".strip(),
            unit="device",
            disable=None,
            leave=False,
        )
        for device, support in bar:
            seed = seed_from("compare", self.options.seed, name, device.device.id) % 2**62
            torch.manual_seed(seed)
            start = time.perf_counter()
            predict = method.adapt(support, settings, seed)
            taken.append(1e3 * (time.perf_counter() - start))
            asked, back = _blind(self.model.task.asked(device, samples.clips), self._shuffles, device)
            figures.append(self.model.task.figures(predict(asked)[:, back], device))
        return figures, taken

    @property
    def _shuffles(self) -> bool:
        """Whether the candidates' order tells the answer: in retrieval text i belongs to candidate i."""
        return not self.model.task.has_answers

    def _cost(
        self, method: Method, settings: Settings, support: Support, taken: Sequence[float]
    ) -> dict[str, Any]:
        """Compute the ledger of one adaptation, on the first device; the time is the median over devices."""
        traffic, own = method.traffic(support, settings), method.device_work(support, settings)
        adapting = Work() if method.on_cloud else measure(lambda: method.adapt(support, settings, 0))
        ms, query_ms = round(float(np.median(taken)), 3), method.query_ms(support, settings)
        return {
            "labels": 0 if support.labeled is None else len(support.labeled.answers),
            "bytes_up": traffic.up,
            "bytes_down": traffic.down,
            "bytes_per_query": {str(n): _bytes_per_query(traffic, n) for n in REUSE},
            "adapt_device_macs": own.macs + adapting.macs,
            "adapt_device_peak_bytes": max(own.peak_bytes, adapting.peak_bytes),
            "adapt_device_ms": None if method.on_cloud else ms,
            "cloud_ms": ms if method.on_cloud and query_ms is None else None,
            "cloud_query_ms": None if query_ms is None else round(query_ms, 3),
            "leaves_device": list(traffic.leaves),
        }


def _bytes_per_query(traffic: Traffic, reuse: int) -> float:
    """Compute the bytes per query, up and down together, where an adaptation serves `reuse` queries."""
    each = traffic.query_up + traffic.query_down
    return round((traffic.up + traffic.down) / reuse + each, 2)


def _blind(asked: Asked, shuffled: bool, device: DeviceData) -> tuple[Asked, Any]:
    """Shuffle the candidates, and return the index that restores the order of the columns of scores."""
    if not shuffled:
        return asked, slice(None)
    order = generator_for("candidates", device.device.id).permutation(len(asked.shown))
    return Asked(asked.shown[order], asked.texts, asked.options), torch.from_numpy(np.argsort(order))


def compare_rows(outcomes: Sequence[Outcome], task: str, options: CompareOptions) -> list[dict[str, Any]]:
    """Make a row for each metric and method, by metric and then from the best to the worst.

    The rows have the form of `evaluate`: `own` is the method, `gain` is over base, paired over devices.
    """
    base = next(outcome for outcome in outcomes if outcome.method == "base").values
    return [
        {
            "task": task,
            "shift": options.shift,
            "support": options.support,
            "devices": len(base[metric]),
            "metric": metric.name,
            **({"gallery": metric.gallery} if metric.gallery else {}),
            "method": outcome.method,
            "note": outcome.note,
            "controls": {
                "base": interval(base[metric]).json(),
                "own": interval(outcome.values[metric]).json(),
            },
            "gain": interval(outcome.values[metric] - base[metric]).json(),
            "recovery": None,
            "worse_share": round(float((outcome.values[metric] < base[metric] - WORSE_BY).mean()), 4),
            "hindsight": round(outcome.hindsight[metric], 4) if outcome.hindsight else None,
            "settings": outcome.settings,
            "trials": outcome.trials,
            "cost": outcome.cost,
        }
        for metric in base
        for outcome in sorted(outcomes, key=lambda outcome: -outcome.values[metric].mean())
    ]


def _part(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _stored(outcome: Outcome) -> dict[str, Any]:
    values = [
        {
            "metric": metric.name,
            "gallery": metric.gallery,
            "values": numbers.tolist(),
            "hindsight": outcome.hindsight.get(metric),
        }
        for metric, numbers in outcome.values.items()
    ]
    return {**vars(outcome), "values": values, "hindsight": None}


def _kept(folder: Path, name: str, run: Mapping[str, Any]) -> Outcome | None:
    """Read the outcome of an earlier run; None if there is none."""
    path = _part(folder, name)
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    check_same_run(folder, "a comparison", stored.pop("run"), run)
    entries = {Metric(entry["metric"], entry["gallery"]): entry for entry in stored["values"]}
    values = {metric: np.array(entry["values"]) for metric, entry in entries.items()}
    hindsight = {m: entry["hindsight"] for m, entry in entries.items() if entry["hindsight"] is not None}
    return Outcome(**{**stored, "values": values, "hindsight": hindsight})
