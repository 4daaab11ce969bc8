"""`paramcast bench`: measure the parts, each against something that is run beside it. One file a command."""

from __future__ import annotations

import click

from paramcast.cli.bench import (
    adr,
    anchors,
    browser,
    bytes,
    device,
    fuzz,
    gate,
    headroom,
    inversion,
    recovery,
    registry,
    scale,
    sensors,
    service,
    soak,
    stream,
    wake,
)


@click.group(name="bench")
def command() -> None:
    """Measure adaptation, the cloud service and the device."""


for part in (
    recovery,
    headroom,
    adr,
    anchors,
    bytes,
    stream,
    gate,
    device,
    browser,
    service,
    scale,
    sensors,
    soak,
    wake,
    registry,
    fuzz,
    inversion,
):
    command.add_command(part.command)
