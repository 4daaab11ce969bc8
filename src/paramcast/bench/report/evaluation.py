"""Page of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paramcast.bench.report.charts import bytes_chart, controls_chart, devices_chart
from paramcast.bench.report.page import both, render
from paramcast.bench.table import CONTROLS, COSTS, QUESTION_CONTROLS, by_metric
from paramcast.files import write_bytes
from paramcast.training.controls import Result
from paramcast.video.shifts.fleet import Device
from paramcast.video.training.evaluate import Evaluation

_WORST = 8


def write_report(path: Path | str, results: Mapping[str, Any], evaluation: Evaluation) -> None:
    """Write the page: one file that needs no network.

    Args:
        path: The HTML file.
        results: Results of the evaluation, see `paramcast.results`.
        evaluation: The evaluation itself, with the values of every device.
    """
    template = Path(__file__).with_name("evaluation.html.j2")
    write_bytes(path, render(template, results, **_content(results["rows"], evaluation)).encode())


def _content(rows: Sequence[Mapping[str, Any]], evaluation: Evaluation) -> dict[str, Any]:
    metrics = by_metric(rows)
    first = next(iter(metrics.values()))
    result = _of_most_support(evaluation.results)
    gains = result.values["own"] - result.values["base"]
    costs = [row for row in first if row["cost"]]
    return {
        "controls": {
            name: meaning
            for name, meaning in (CONTROLS | QUESTION_CONTROLS).items()
            if name in first[0]["controls"]
        },
        "metrics": [(name, rows, both(controls_chart, rows)) for name, rows in metrics.items()],
        "about": first[-1],
        "verdict": verdict(first[-1]),
        "devices_chart": both(devices_chart, result.devices, gains),
        "better": int((gains > 0).sum()),
        "worst": _worst(result, evaluation.fleet.devices),
        "costs": [(name, [show(row["cost"]) for row in costs]) for name, show in COSTS.items()],
        "cost_support": [row["support"] for row in costs],
        "bytes_chart": both(bytes_chart, costs) if costs else None,
    }


def verdict(row: Mapping[str, Any]) -> str:
    """Conclude in one sentence what the controls show."""
    gain, matters = row["gain"], row["own_minus_shuffled"]
    if gain["low"] <= 0:
        return (
            "No gain is shown: its interval reaches 0." if gain["high"] >= 0 else "Adaptation does harm here."
        )
    if matters["low"] <= 0:
        return (
            "There is a gain, but it is not shown to come from the device's own package: another "
            "device's package gains as much."
        )
    return "There is a gain, and it is the device's own package that makes it."


def _of_most_support(results: Sequence[Result]) -> Result:
    """Return the first metric's result with the most support clips."""
    return max((each for each in results if each.metric == results[0].metric), key=lambda each: each.support)


def _worst(result: Result, devices: Sequence[Device]) -> list[dict[str, Any]]:
    """Return the devices with the lowest gains."""
    gains = result.values["own"] - result.values["base"]
    return [
        {
            "id": result.devices[index],
            "base": result.values["base"][index],
            "own": result.values["own"][index],
            "gain": gains[index],
            "domain": _domain(devices[index]),
        }
        for index in gains.argsort(kind="stable")[:_WORST]
    ]


def _domain(device: Device) -> str:
    """Describe the domain of a device in a few words."""
    parts = [f"{camera.kind} {camera.severity:.1f}" for camera in device.cameras]
    largest = sorted(device.categories.items(), key=lambda item: -item[1])[:2]
    parts += [f"{name} {100 * share:.0f} %" for name, share in largest]
    parts += ["own words"] * (device.vocabulary is not None) + ["own answers"] * (device.habits is not None)
    return ", ".join(parts)
