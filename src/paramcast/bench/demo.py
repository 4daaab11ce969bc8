"""The demo: train, export, serve, adapt devices over HTTP and evaluate, all on the generated world."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from paramcast.bench.evaluation import run_evaluation
from paramcast.bench.processes import cloud_service, finish_device, start_device, stop
from paramcast.bench.table import align
from paramcast.protocol import load_or_make_key, public_key_hex
from paramcast.video.data.collection import Collection
from paramcast.video.shifts.fleet import Fleet
from paramcast.video.training.artifact import export_artifact
from paramcast.video.training.evaluate import test_fleet
from paramcast.video.training.pipeline import TrainingOptions, train
from paramcast.video.world import demo_world

SHIFT = "category+camera+vocabulary"
SUPPORT_SIZES = (1, 2, 4, 8, 16)
_SUPPORT = 8  # support clips of each device that runs in a process
_AT_ONCE = 2


@dataclass(frozen=True)
class DemoOptions:
    """The size of a demo.

    Attributes:
        judged: Number of test devices for the evaluation with controls.
        training: Options of training.
        devices: Number of devices that adapt over HTTP; each runs in a separate process.
    """

    judged: int
    training: TrainingOptions
    devices: int = 20

    def of(self, devices: int, seed: int) -> DemoOptions:
        """Copy the options with another number of devices and another seed."""
        return replace(self, devices=devices, training=replace(self.training, seed=seed))


FULL = DemoOptions(40, TrainingOptions("qa", frames=4, devices=60, adaptor_steps=600))
QUICK = DemoOptions(16, TrainingOptions("qa", frames=2, devices=20, adaptor_steps=40))


def run_demo(out: Path, options: DemoOptions, command: str) -> dict[str, Any]:
    """Run every step; the model and the device results of an earlier run are reused from `out`.

    Returns:
        The results of the evaluation, with the results of the devices as `fleet`.

    Raises:
        ProcessError: The service or a device failed.
    """
    started = time.perf_counter()
    with _step("1/5 make the world: short videos with questions and answers") as note:
        collection = demo_world()
        note(f"{len(collection.clips)} clips in {collection.root}")
    with _step("2/5 train a base model and its adaptors") as note:
        model = train(collection, out / "model", options.training)
        note(f"validation (%): {', '.join(f'{k} {v:.1f}' for k, v in model.config.scores.items())}")
    with _step("3/5 export the artifact for devices and the server") as note:
        key = load_or_make_key(out / "cloud" / "cloud.key")
        artifact = export_artifact(model, out / "artifact", public_key_hex(key))
        bundle = artifact / "device"
        note(f"{sum(path.stat().st_size for path in bundle.iterdir()) / 1e6:.0f} MB in {bundle}")
    fleet = test_fleet(model, collection, SHIFT, options.devices, max(SUPPORT_SIZES), options.training.seed)
    with (
        _step(f"4/5 serve, and run {options.devices} devices that adapt over HTTP and answer") as note,
        cloud_service(artifact, out / "cloud") as url,
    ):
        devices = _run_devices(out / "devices" / model.sha256()[:12], bundle, url, collection, fleet)
        note(f"{len(devices)} devices, each in its own process, with the server at {url}")
    click.echo(f"\n{devices_table(devices)}\n")
    with _step("5/5 evaluate adaptation beside its controls, and its costs") as note:
        figures = run_evaluation(
            out / "model",
            collection.root,
            shift=SHIFT,
            devices=options.judged,
            support_sizes=SUPPORT_SIZES,
            seed=options.training.seed,
            command=command,
            json_file=out / "figures.json",
            report_file=out / "report.html",
        )
        note(f"{options.judged} devices that training never saw")
    click.echo(f"done in {time.perf_counter() - started:.0f} s: open {out / 'report.html'}")
    return figures | {"fleet": devices}


def devices_table(devices: Sequence[dict[str, Any]]) -> str:
    """Format the measurements that each device made."""
    head = ["device", "base %", "own %", "bytes up", "down", "adapt ms", "swap ms", "answer ms", "peak MB"]
    rows = [
        [
            device["device"],
            f"{device['base']['top1']:.1f}",
            f"{device['own']['top1']:.1f}",
            f"{device['bytes_up']:,}",
            f"{device['bytes_down']:,}",
            f"{device['adapt_ms']:.1f}",
            f"{device['swap_ms']:.1f}",
            f"{device['own']['answer_ms']:.1f}",
            f"{device['peak_mb']:.0f}",
        ]
        for device in devices
    ]
    means = [f"{np.mean([device[which]['top1'] for device in devices]):.1f}" for which in ("base", "own")]
    return align([head, *rows, ["mean", *means, *[""] * 6]])


def _run_devices(
    folder: Path, bundle: Path, url: str, collection: Collection, fleet: Fleet
) -> list[dict[str, Any]]:
    """Run every device that has no results in `folder` yet, two at a time; return the results of all."""
    folder.mkdir(parents=True, exist_ok=True)
    fleet.save(folder / "fleet.json")
    files = {device.id: folder / f"{device.id}.json" for device in fleet.devices}
    waiting = [device for device, file in files.items() if not file.exists()]
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < _AT_ONCE:
                name = waiting.pop(0)
                running[name] = start_device(
                    bundle, url, collection.root, name, folder / "fleet.json", _SUPPORT, files[name]
                )
            first = next(iter(running))
            finish_device(running[first], files[first])
            del running[first]
    finally:
        for process in running.values():
            stop(process)
    return [json.loads(file.read_text(encoding="utf-8")) for file in files.values()]


@contextmanager
def _step(title: str) -> Iterator[Callable[[str], None]]:
    """Print the title of a step; at its end print its duration and its results, which `note` collects."""
    click.echo(title)
    start = time.perf_counter()
    found: list[str] = []
    yield found.append
    click.echo(f"    {time.perf_counter() - start:.1f} s: {', '.join(found)}")
