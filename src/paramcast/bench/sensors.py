"""`paramcast bench sensors`: gain of adaptation on real users, compared with free baselines of a device.

Every user is one device. A base and a hypernetwork are trained on users of a set, and evaluated on other
users. Each of these adapts with a few unlabeled examples in a random order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paramcast.adapters import Basis
from paramcast.bench.sensor_data import SensorSet, list_sets, read_set, split
from paramcast.bench.sensor_nets import PictureNet, SignalNet
from paramcast.bench.sensor_shifts import Randomized
from paramcast.bench.table import align
from paramcast.errors import InputError
from paramcast.training.bases import Supervised
from paramcast.training.model import AdaptableModel, adaptable
from paramcast.training.scores import LOSSES
from paramcast.training.seeding import seed_from

CONTROLS = ("base", "constant", "shuffled", "own", "best_free")
ADAPTER = Basis(32)
SIMULATED = 1.5
"""Strength of the simulated users of a hypernetwork, where the simulated users of a base have 1."""
STEPS = 240
"""Optimizer steps of a base; a hypernetwork takes half of this number."""
FOLDS = 3
"""Number of bases for cross-fitting, each trained without a part of the training users."""
DEVELOPMENT = 3
"""About one of this number of training users is for choosing the step, gain predictor and free baseline."""


def bench_sensors(
    data: Path, test: Path | None = None, names: Sequence[str] = (), seed: int = 0, steps: int | None = None
) -> list[dict[str, Any]]:
    """Measure every set of a folder.

    Args:
        data: A folder of `*.npz` sets; the training users are from it.
        test: A folder with other users of the same sets; None: about a third of the users is kept back.
        names: Sets; all sets of the folder if empty.
        seed: Seed of everything.
        steps: Optimizer steps of a base; a hypernetwork takes half of this number.

    Returns:
        A row for each set: the controls with their intervals over users, and own against the best free
            baseline.

    Raises:
        InputError: A file is missing or malformed, or both folders hold the same users.
    """
    sets, others = list_sets(data, names), {} if test is None else list_sets(test)
    chosen = {name: path for name, path in sets.items() if test is None or name in others}
    if lost := [name for name in names if name not in chosen]:
        raise InputError(f"{test} has no {lost[0]}.npz")
    if not chosen:
        raise InputError(f"{test} holds none of the sets of {data}: {', '.join(sets)}")
    return [
        _row(read_set(path, seed), read_set(others[name], seed) if test else None, seed, steps or STEPS)
        for name, path in chosen.items()
    ]


def _row(known: SensorSet, other: SensorSet | None, seed: int, steps: int) -> dict[str, Any]:
    learned, tested = (known.devices, other.devices) if other else split(known.devices, known.name)
    if twice := {device.id for device in learned} & {device.id for device in tested}:
        raise InputError(f"{known.name}: user {min(twice)} is among the users of training and of test")
    train, development = split(learned, f"{known.name}/development", DEVELOPMENT)
    model = sensor_model(known, seed)
    assert isinstance(model.loss, str)
    base = Supervised(LOSSES[model.loss], steps, augment=Randomized(known.name))
    model.fit(
        train,
        development,
        max(1, steps // 2),
        base=base,
        augment=Randomized(known.name, SIMULATED),
        start=True,
        support=known.task.support,
        folds=FOLDS,
        seed=seed,
    )
    report = model.evaluate(tested, support=known.task.support, seed=seed)
    row = report.rows[0]
    free = model.fitted.summary.get("free")
    return {
        "name": known.name,
        "controls": {name: row["controls"][name] for name in CONTROLS if name in row["controls"]},
        "metric": row["metric"],
        "higher_is_better": not known.task.regression,
        "devices": row["devices"],
        "support": row["support"],
        "gain": row["gain"],
        "own_minus_best_free": row["own_minus_best_free"],
        "free": None if free is None else {"method": free["name"], "strength": free["strength"]},
        "start": row["controls"].get("start"),
        "started_from": (model.fitted.summary.get("start") or {}).get("name"),
        "worse_share": row["worse_share"],
        "cost": row["cost"],
    }


def sensor_model(known: SensorSet, seed: int) -> AdaptableModel:
    """Make an untrained model for a set: a small network, with the targets of adaptation.

    Args:
        known: The set.
        seed: Seed of the initial weights.
    """
    torch.manual_seed(seed_from("sensors", known.name, seed))
    signals, *beside = known.devices[0].inputs
    net: nn.Module
    targets: tuple[str, ...]
    if signals.dim() == 4:
        net, targets = PictureNet(known.classes), ("norm", "convs.0", "head")
    else:
        extra = beside[0].shape[1] if beside else 0
        net = SignalNet(signals.shape[1], signals.shape[2], known.classes or 1, extra)
        targets = ("frame", "head")
    loss = "smooth_l1" if known.task.regression else "cross_entropy"
    return adaptable(net, targets, ADAPTER, loss=loss, score=known.score)


def sensors_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the rows for the terminal."""
    cells = [["set", "users", "support", *CONTROLS, "own - best_free"]]
    for row in rows:
        means = [
            f"{row['controls'][name]['mean']:.1f}" if name in row["controls"] else "-" for name in CONTROLS
        ]
        over = row["own_minus_best_free"]
        told = "-" if over is None else f"{over['mean']:+.1f} [{over['low']:+.1f}, {over['high']:+.1f}]"
        cells.append([row["name"], str(row["devices"]), str(row["support"]), *means, told])
    return align(cells)
