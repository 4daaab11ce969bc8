"""Train, evaluate and export a user's torch module; `--module` and `--devices` name functions."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paramcast.cli.common import needs, typed_command
from paramcast.errors import InputError, ParamcastError

if TYPE_CHECKING:
    from torch import nn

    from paramcast.training.devices import DeviceData
    from paramcast.training.model import AdaptableModel

PARTS = ("train", "validation", "test")

module_option = click.option(
    "--module",
    metavar="FILE.py:FUNCTION",
    help="Your own module: a function without arguments that returns the module.",
)


class DevicesOrCount(click.ParamType[int | str]):
    """Number of simulated devices, or FILE.py:FUNCTION that returns the devices of a module."""

    name = "COUNT or FILE.py:FUNCTION"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number as an int, or the text if it names a function."""
        if isinstance(value, str) and ":" in value:
            return value
        try:
            count = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor FILE.py:FUNCTION", param, ctx)
        if count < self._least:
            self.fail(f"{count} is too few; at least {self._least}", param, ctx)
        return count


def imported(place: str) -> Callable[[], Any]:
    """Import the function that FILE.py:FUNCTION, or package.module:FUNCTION, names.

    Raises:
        InputError: There is no such file or function, or the file cannot be imported.
    """
    source, _, name = place.rpartition(":")
    if not source or not name:
        raise InputError(f"{place!r} does not name a function: write FILE.py:FUNCTION")
    path = Path(source)
    try:
        if path.suffix == ".py":
            if not path.is_file():
                raise InputError(f"there is no file {path}")
            sys.path.insert(0, str(path.resolve().parent))  # so that the file can import files beside it
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            found = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = found
            spec.loader.exec_module(found)
        else:
            found = importlib.import_module(source)
    except ParamcastError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise InputError(f"{source} cannot be imported: {type(error).__name__}: {error}") from error
    function: Callable[[], Any] | None = getattr(found, name, None)
    if not callable(function):
        raise InputError(f"{source} has no function {name!r}")
    return function


def built(place: str) -> nn.Module:
    """Return the module that a user's function builds."""
    from torch import nn

    module = imported(place)()
    if not isinstance(module, nn.Module):
        raise InputError(f"{place} must return a torch module, not {type(module).__name__}")
    return module


def devices_of(place: str, parts: Sequence[str]) -> list[list[DeviceData]]:
    """Return the devices of a user's function, as a list for each part.

    Args:
        place: FILE.py:FUNCTION. The function returns a mapping with lists `train`, `validation` and `test`,
            or one list. One list is divided by group: a fifth of the groups for test, a fifth for validation,
            and the rest for training.
        parts: Names of the parts that are needed.

    Raises:
        InputError: A part is missing.
    """
    found = imported(place)()
    if isinstance(found, Mapping):
        if missing := [part for part in parts if not found.get(part)]:
            raise InputError(f"{place} returns no {missing[0]} devices; it returns: {', '.join(found)}")
        return [list(found[part]) for part in parts]
    devices = list(found)
    divided: dict[str, list[DeviceData]] = {part: [] for part in PARTS}
    groups = sorted({device.group_name for device in devices})
    for device in devices:
        place_of = groups.index(device.group_name) % 5
        divided["test" if place_of == 0 else "validation" if place_of == 1 else "train"].append(device)
    if short := [part for part in parts if not divided[part]]:
        raise InputError(f"{place} returns {len(groups)} groups of devices, too few for {short[0]} devices")
    return [divided[part] for part in parts]


def train_module(
    module: str,
    devices: int | str,
    out: Path,
    seed: int,
    steps: int | None,
    workers: int | None,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Train a user's module and write the model to `out`."""
    with needs("paramcast train", "train"):
        from paramcast.results import write_results
    if not isinstance(devices, str):
        raise InputError(
            "with --module, --devices must name a function that returns the devices: FILE.py:FUNCTION"
        )
    start = time.perf_counter()
    run = options | {"module": module, "devices": devices, "out": str(out), "seed": seed, "steps": steps}
    if workers:
        from paramcast.training.on_ray import connect, train_together

        devices_of(devices, PARTS[:2])  # report errors here, not in every worker
        run |= {name: _resolved(run[name]) for name in ("module", "devices")} | {"out": str(out.resolve())}
        connect(workers)
        train_together(_take_part, run, out.resolve(), workers)
        model = loaded(module, out)
    else:
        model = _train(run)
    seconds, summary = time.perf_counter() - start, model.fitted.summary
    click.echo(f"{out}: a model of {module} in {seconds:.0f} s; {summary['verdict']}")
    if json_file:
        rows = [{"name": "train", "value": 1e3 * seconds, "unit": "ms"}]
        rows += [
            {"name": f"validation_{k}", "value": summary[k], "unit": summary["score"]}
            for k in ("base", "own")
        ]
        write_results(json_file, typed_command(), seed, rows)


def _train(run: dict[str, Any]) -> AdaptableModel:
    """Train in this process, alone or as a member of a team, and write the model."""
    import torch

    import paramcast as pc
    from paramcast.adapters import load_config
    from paramcast.training.team import Team

    train, validation = devices_of(run["devices"], PARTS[:2])
    torch.manual_seed(run["seed"])
    adapter, out = load_config([{"name": run["adapter"]}]), Path(run["out"])
    model = pc.adaptable(built(run["module"]), run["targets"] or ("*",), adapter, run["context"])
    model.fit(train, validation, run["steps"], base=run["base"], seed=run["seed"], folder=out / "checkpoints")
    if Team.current().rank == 0:
        model.save(out)
    return model


def _take_part(run: dict[str, Any]) -> None:
    """Train as a worker of Ray; return no model, as a worker could not send it back."""
    _train(run)


def _resolved(place: str) -> str:
    """Return FILE.py:FUNCTION with the absolute path of the file; workers run in other folders."""
    source, _, name = place.rpartition(":")
    return f"{Path(source).resolve()}:{name}" if source.endswith(".py") else place


def evaluate_module(
    module: str,
    devices: int | str,
    model_dir: Path,
    support: Sequence[int],
    seed: int,
    json_file: Path | None,
    report_file: Path | None,
) -> None:
    """Evaluate a model of a user's module on its test devices."""
    with needs("paramcast evaluate", "train"):
        from paramcast.results import write_results
    if not isinstance(devices, str):
        raise InputError(
            "with --module, --devices must name a function that returns the devices: FILE.py:FUNCTION"
        )
    (test,) = devices_of(devices, PARTS[2:])
    report = loaded(module, model_dir).evaluate(test, support or 8, seed=seed)
    click.echo(report.table())
    if json_file:
        write_results(json_file, typed_command(), seed, report.rows)
    if report_file:
        click.echo(f"\nreport: {report.save(report_file)}")


def loaded(module: str, model_dir: Path) -> AdaptableModel:
    """Read a model into the module that a user's function builds."""
    import paramcast as pc

    return pc.load(model_dir, built(module))
