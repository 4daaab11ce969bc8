"""`paramcast bench`: measure the parts, each against something that is run beside it. One file a command."""

from __future__ import annotations

import click

from paramcast.cli.bench import device, gate, recovery, sensors, service


@click.group(name="bench")
def command() -> None:
    """Measure adaptation, the cloud service and the device."""


for part in (recovery, gate, device, service, sensors):
    command.add_command(part.command)
