"""The rows of an evaluation in its figures file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paramcast.figures import commit, figures, machine, write_figures
from paramcast.training.statistics import interval

if TYPE_CHECKING:
    from paramcast.training.controls import Result

__all__ = ["commit", "evaluation_rows", "figures", "machine", "write_figures"]


def evaluation_rows(
    results: Sequence[Result], task: str, shift: str, costs: Mapping[int, Mapping[str, Any]] | None
) -> list[dict[str, Any]]:
    """A row for each metric and support size of an evaluation.

    Args:
        results: Of `training.evaluate.evaluate`.
        task: 'qa', 'choice' or 'retrieval'.
        shift: As it was asked for.
        costs: Support size -> its ledger; None where the model cannot run on a device.
    """
    return [
        {
            "task": task,
            "shift": shift,
            "support": result.support,
            "devices": len(result.devices),
            "metric": result.metric.name,
            **({"gallery": result.metric.gallery} if result.metric.gallery else {}),
            "controls": {name: interval(values).json() for name, values in result.values.items()},
            "gain": result.gain.json(),
            "own_minus_shuffled": result.device_matters.json(),
            "recovery": None if result.recovery is None else round(result.recovery, 4),
            "worse_share": round(result.worse_share, 4),
            "cost": None if costs is None else dict(costs[result.support]),
        }
        for result in results
    ]
