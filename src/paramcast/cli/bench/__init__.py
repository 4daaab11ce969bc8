"""`paramcast bench`: measure the parts, each against something that is run beside it. One file a command."""

from __future__ import annotations

import click

from paramcast.cli.bench import device, gate, recovery, service


@click.group(name="bench")
def command() -> None:
    """Measure adaptation, the cloud service and the device."""


for part in (recovery, gate, device, service):
    command.add_command(part.command)
