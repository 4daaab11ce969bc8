"""`paramcast doctor`: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from paramcast import __version__
from paramcast.paths import cache_dir

EXTRAS = {
    "": "a device: answer, ask, swap",
    "video": "decode video files and cameras",
    "train": "train, evaluate, demo",
    "server": "the service",
    "traces": "OpenTelemetry traces of the service",
    "methods": "what paramcast is compared with",
    "audio": "the YAMNet trunk",
    "clip": "CLIP models of open_clip",
    "flower": "federated clients as processes",
    "timm": "trunks of timm",
    "ray": "the service on Ray Serve",
    "browser": "a benchmark of the page",
    "fuzz": "fuzzing what is read from strangers",
    "dev": "the tests",
}
"""Extra ('' is the base install) -> what it is for."""


@click.command(name="doctor")
def command() -> None:
    """Tell what is installed, what is missing and how to get it."""
    click.echo(f"paramcast {__version__}, Python {platform.python_version()}, {platform.platform()}")
    click.echo(f"{os.cpu_count()} cores; ONNX Runtime runs on {', '.join(providers())}")
    folder = cache_dir()
    click.echo(f"cache: {folder}, {size(folder) / 1e6:,.0f} MB (PARAMCAST_CACHE puts it elsewhere)\n")
    for extra, purpose in EXTRAS.items():
        wanting = list(problems(extra))
        state = click.style("missing", fg="yellow") if wanting else click.style("ready", fg="green")
        click.echo(f"  {extra or '(base)':8} {purpose:38} {state}")
        for problem in wanting:
            click.echo(f"           {problem}")
        if wanting:
            package = f"paramcast[{extra}]" if extra else "paramcast"
            click.echo(f"           get it: pip install '{package}'")


def problems(extra: str) -> Iterator[str]:
    """What keeps an extra from being used: a line for each package that is missing or of another version."""
    for requirement in requirements(extra):
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield f"{requirement.name} is not installed"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} is {found}, needed is {requirement.specifier}"


def requirements(extra: str) -> list[Requirement]:
    """What an extra ('' for the base install) asks for here, with what its own extras ask for."""
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
    """Whether a requirement is asked for here by who installs this extra ('': the base)."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def providers() -> list[str]:
    """Where ONNX Runtime can run graphs, or why it cannot."""
    try:
        import onnxruntime
    except ImportError as error:
        return [f"nothing ({error})"]
    return [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
