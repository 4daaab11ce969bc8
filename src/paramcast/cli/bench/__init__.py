"""`paramcast bench`: measure the parts beside a reference in the same run. Each command has a file."""

from __future__ import annotations

import click

from paramcast.cli.bench import device, gate, recovery, sensors, service


@click.group(name="bench")
def command() -> None:
    """Measure adaptation, the cloud service and the device."""


for part in (recovery, gate, device, service, sensors):
    command.add_command(part.command)
