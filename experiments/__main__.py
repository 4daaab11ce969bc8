"""`python -m experiments NAME`: a group of commands, one line each; a command is imported when called."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click

from paramcast.cli import LazyGroup, run
from paramcast.cli.common import needs

NAME = "python -m experiments"


class Experiment(NamedTuple):
    """A command of the group.

    Attributes:
        line: What it measures.
        module: Module below `experiments` that has it as `command`.
        extra: Extras of paramcast that it needs.
    """

    line: str
    module: str
    extra: str = "train"


EXPERIMENTS = {
    "sweep": Experiment("models, shifts, methods and seeds -> records -> tables", "sweep"),
    "headroom": Experiment("where there is something to gain", "headroom", "train,methods"),
    "architectures": Experiment(
        "tiny models of many architectures, each sent the whole road",
        "architectures.command",
        "train,server",
    ),
    "adr": Experiment("what the ADR is worth", "adr"),
    "anchors": Experiment("which frame of a clip to send", "anchors"),
    "bytes": Experiment("accuracy against bytes, by form and quantization", "bytes"),
    "stream": Experiment("when to ask", "stream"),
    "inversion": Experiment("what an uplink feature tells, and what noise hides and costs", "inversion"),
    "browser": Experiment("a device in a browser tab", "browser", "train,server,browser"),
    "scale": Experiment("several processes of the service, and replicas on Ray", "scale", "train,server"),
    "soak": Experiment("the service under load for minutes", "soak", "train,server"),
    "wake": Experiment("a fleet that wakes at once", "wake", "train,server"),
    "strangers": Experiment("devices beside strangers who want all", "strangers", "train,server"),
    "registry": Experiment("few devices known, and a million", "registry", "train,server"),
    "fuzz": Experiment("what is read from strangers, under a fuzzer", "fuzz", "train,fuzz"),
    "m3bat": Experiment("M3BAT, CORAL and DANN", "methods.m3bat.command", "methods"),
    "cmda_ot": Experiment("CMDA-OT and its baselines, by target", "methods.cmda_ot.benchmark", "methods"),
    "cmda_ot_scaling": Experiment(
        "CMDA-OT: seconds and memory by samples", "methods.cmda_ot.scaling", "methods"
    ),
    "mm_adapter": Experiment("few-shot adapters of a dual encoder", "methods.mm_adapter.command", "methods"),
    "mm_adapter_summary": Experiment(
        "several results of mm_adapter in one table", "methods.mm_adapter.summary", "methods"
    ),
}


def load(name: str) -> click.Command:
    """Import a command.

    Raises:
        MissingExtraError: An extra of paramcast is missing.
    """
    known = EXPERIMENTS[name]
    with needs(f"{NAME} {name}", known.extra):
        command: click.Command = import_module(f"experiments.{known.module}").command
    return command


@click.group(
    cls=LazyGroup,
    lines={name: known.line for name, known in EXPERIMENTS.items()},
    load=load,
    context_settings={"help_option_names": ["-h", "--help"]},
)
def experiments() -> None:
    """Measure what the package claims. Results and log: experiments/results, experiments/log.md."""


if __name__ == "__main__":
    run(experiments, NAME)
