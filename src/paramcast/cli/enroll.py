"""`paramcast enroll`: make a one-time token with which a device enrolls itself."""

from __future__ import annotations

import time

import click

from paramcast.cli.cloud_options import opened_state, state_option
from paramcast.errors import InputError
from paramcast.protocol.limits import DEVICE_ID


@click.command(name="enroll", context_settings={"show_default": True})
@click.argument("device", required=False)
@click.option("--hours", default=24, type=click.IntRange(1, 720), help="Hours until an unused token expires.")
@state_option
def command(device: str | None, hours: int, state: str) -> None:
    """Print a token that enrolls one device, once: DEVICE, or without DEVICE the first device that uses it.

    The device then runs: paramcast device enroll --cloud URL --device-id NAME --token TOKEN --identity FOLDER
    """
    if device is not None and not DEVICE_ID.fullmatch(device):
        raise InputError(
            "a device id begins with a letter or digit and has at most 128 letters, digits and ._:@+-"
        )
    with opened_state(state, "paramcast enroll") as database, database.writing() as connection:
        from paramcast.server.db import identities

        token = identities.new_enrolment(connection, device, int(1000 * time.time()), 3_600_000 * hours)
    click.echo(token)
