"""`paramcast doctor`: report the installed and the missing packages, and how to install the latter."""

from __future__ import annotations

import importlib
import os
import platform
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from paramcast import __version__
from paramcast.cli.cloud_options import opened_state, store_option
from paramcast.errors import ParamcastError
from paramcast.installed import install_command
from paramcast.paths import cache_dir

EXTRAS = {
    "": ("a device: answer, ask, swap", ["paramcast.device", "paramcast.cli.device"]),
    "video": ("decode video files and cameras", ["av", "PIL.Image", "paramcast.device.video"]),
    "formats": (
        "import data sets of other formats",
        ["webdataset", "datasets", "pyarrow.parquet", "paramcast.video.imports"],
    ),
    "train": (
        "train, evaluate, export",
        [
            "paramcast.video.training.pipeline",
            "paramcast.video.training.artifact",
            "paramcast.video.world",
            "paramcast.video.encoders.conse",
            "paramcast.video.encoders.minilm",
            "paramcast.bench.report",
        ],
    ),
    "server": ("the service", ["paramcast.server", "uvicorn", "httptools", "psycopg"]),
    "traces": (
        "OpenTelemetry traces of the service",
        [
            "opentelemetry.sdk.trace.export",
            "opentelemetry.exporter.otlp.proto.http.trace_exporter",
            "opentelemetry.instrumentation.asgi",
            "paramcast.server",
        ],
    ),
    "methods": (
        "other systems: M3BAT, CMDA-OT, Multi-Modal Adapter",
        [*(f"paramcast.methods.{name}" for name in ("m3bat", "cmda_ot", "mm_adapter")), "cma", "peft"],
    ),
    "audio": ("the YAMNet encoder of sound", ["onnx", "paramcast.video.encoders.yamnet", "av"]),
    "clip": ("CLIP models of open_clip", ["open_clip"]),
    "flower": ("federated clients as processes", ["flwr", "paramcast.methods.cmda_ot"]),
    "timm": ("image encoders of timm", ["timm"]),
    "ray": ("the service on Ray Serve", ["ray.serve", "ray.data", "paramcast.server.on_ray"]),
    "browser": ("a benchmark of the page", ["playwright.sync_api"]),
    "fuzz": ("fuzzing the readers of untrusted input", ["atheris"]),
    "dev": ("the tests", ["pytest", "hypothesis", "schemathesis"]),
}
"""Extra ('' is the base install) -> its purpose, and the modules that its commands import."""


@click.command(name="doctor")
@click.option(
    "--state",
    help="Check the state of a service instead: a file for SQLite, or postgresql://USER@HOST/NAME. The "
    "service may run meanwhile.",
)
@store_option
def command(state: str | None, store: Path | None) -> None:
    """Report the installed and missing packages and how to get them, or the faults of a service's state."""
    if state is not None:
        _check_state(state, store)
        return
    click.echo(f"paramcast {__version__}, Python {platform.python_version()}, {platform.platform()}")
    click.echo(f"{os.cpu_count()} cores; ONNX Runtime runs on {', '.join(providers())}")
    folder = cache_dir()
    click.echo(f"cache: {folder}, {size(folder) / 1000000.0:,.0f} MB (PARAMCAST_CACHE sets another folder)\n")
    for extra, (purpose, _) in EXTRAS.items():
        wanting = list(problems(extra))
        state = click.style("missing", fg="yellow") if wanting else click.style("ready", fg="green")
        click.echo(f"  {extra or '(base)':8} {purpose:52} {state}")
        for problem in wanting:
            click.echo(f"           {problem}")
        if wanting:
            click.echo(f"           get it: {install_command(extra)}")


def _check_state(state: str, store: Path | None) -> None:
    """Print the faults of a state and their cures. Raises ParamcastError if there are faults."""
    with opened_state(state, "paramcast doctor --state", as_it_is=True) as database:
        from paramcast.server.db.integrity import check
        from paramcast.server.store import ModelStore

        beside = store is not None or "://" not in state
        faults = check(database, ModelStore.beside(state, store) if beside else None)
    for fault in faults:
        click.echo(f"{fault.what}\n    cure: {fault.cure}")
    if faults:
        raise ParamcastError(f"{len(faults)} faults in the state {state}")
    click.echo(
        f"the state {state} has no "
        f"faults{'' if beside else '; to check the published models too, give --store'}"
    )


def problems(extra: str) -> Iterator[str]:
    """Yield the reasons why an extra cannot be used: a line for each missing package or wrong version.

    Where all packages are present, the imports of the extra's commands are tried: a package may be broken, or
    a command may need a package that the extra does not require.
    """
    whole = True
    for requirement in requirements(extra):
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            whole = False
            yield f"{requirement.name} is not installed"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            whole = False
            yield f"{requirement.name} is {found}; {requirement.specifier} is needed"
    for module in EXTRAS[extra][1] if whole else ():
        if problem := failing(module):
            yield problem


def failing(module: str) -> str | None:
    """Return why a module cannot be imported; None if it can be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # a broken package may raise any error
        return f"{module} cannot be imported: {' '.join(str(error).split()) or type(error).__name__}"
    return None


def requirements(extra: str) -> list[Requirement]:
    """Return the requirements of an extra ('' for the base install) here, also of the extras inside it."""
    found: list[Requirement] = []
    for line in metadata.requires("paramcast") or []:
        requirement = Requirement(line)
        asked = applies(requirement, extra) and not (extra and applies(requirement, ""))
        if asked and canonicalize_name(requirement.name) == "paramcast":
            found += [part for inner in sorted(requirement.extras) for part in requirements(inner)]
        elif asked:
            found.append(requirement)
    return found


def applies(requirement: Requirement, extra: str) -> bool:
    """Check whether the install of an extra ('' for the base install) has a requirement on this machine."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def providers() -> list[str]:
    """Return the execution providers of ONNX Runtime, or why it cannot be imported."""
    try:
        import onnxruntime
    except ImportError as error:
        return [f"nothing ({error})"]
    return [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]


def size(folder: Path) -> int:
    """Compute the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
