"""`paramcast access`: operators and their roles, revoked devices, and the key that signs packages."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from paramcast.cli.cloud_options import opened_state, state_option
from paramcast.cli.common import FILE
from paramcast.errors import InputError
from paramcast.protocol import KeyFileError, endorse, load_key, make_key, public_key_hex, save_key

ROLES = ("viewer", "operator", "admin")


@click.group(name="access")
def command() -> None:
    """Manage operators and their roles, revoke devices, change the signing key."""


@command.command()
@click.argument("name")
@click.option(
    "--role",
    required=True,
    type=click.Choice(ROLES),
    help="Each role includes the rights of the roles before it.",
)
@click.option(
    "--days",
    default=90,
    show_default=True,
    type=click.IntRange(1, 3650),
    help="Days until the token expires.",
)
@state_option
def grant(name: str, role: str, days: int, state: str) -> None:
    """Print a token for the operator NAME; a former token of NAME ends.

    A viewer sees devices and models. An operator may also enroll and revoke devices. An admin may also roll
    models back.
    """
    if not 0 < len(name) <= 64:
        raise InputError("an operator's name has 1 to 64 characters")
    with opened_state(state, "paramcast access") as database, database.writing() as connection:
        from paramcast.server.db import identities

        now_ms = _now_ms()
        click.echo(identities.grant(connection, name, role, now_ms, now_ms + days * 86_400_000))


@command.command()
@click.argument("name")
@state_option
def withdraw(name: str, state: str) -> None:
    """End the token of the operator NAME."""
    with opened_state(state, "paramcast access") as database, database.writing() as connection:
        from paramcast.server.db import identities

        identities.withdraw(connection, name)


@command.command()
@click.argument("device")
@state_option
def revoke(device: str, state: str) -> None:
    """Refuse all further requests of DEVICE; it needs a new token to be enrolled again."""
    with opened_state(state, "paramcast access") as database, database.writing() as connection:
        from paramcast.server.db import identities

        ended = identities.revoke(connection, device, _now_ms())
    if not ended:
        raise InputError(f"device {device} has no valid key")
    click.echo(f"{ended} keys of device {device} are revoked")


@command.command()
@click.argument("device")
@state_option
def reset(device: str, state: str) -> None:
    """Restart the sequence numbers of DEVICE, in case they are used up, and erase its packages and reports.

    A device that still has its store continues above the highest number that it ran.
    """
    with opened_state(state, "paramcast access") as database, database.writing() as connection:
        from paramcast.server.db import identities

        if not identities.reset_numbers(connection, device):
            raise InputError(f"device {device} is unknown")
    click.echo(f"the numbers of device {device} start anew")


@command.command()
@click.argument("device")
@state_option
def forget(device: str, state: str) -> None:
    """Erase DEVICE and its users from the state: its times, keys, packages, reports and map position.

    Its name can then be used again. To exclude a device, use `revoke` instead. Backups, and the lines of its
    enrollment in the journal, still name the device.
    """
    with opened_state(state, "paramcast access") as database:
        from paramcast.server.db import journal

        with database.writing() as connection:
            erased = journal.forget(connection, device)
        database.checkpoint(empty=True)
    if not erased:
        raise InputError(f"nothing is known of device {device}")
    click.echo(f"{erased} rows of device {device} are erased")


@command.command(name="list")
@state_option
def list_(state: str) -> None:
    """List the operators, and the tokens for devices that were not used yet."""
    with opened_state(state, "paramcast access") as database, database.reading() as connection:
        from paramcast.server.db import identities

        operators = identities.all_operators(connection)
        waiting = identities.waiting_enrolments(connection, _now_ms())
    for one in operators:
        until = f", until {_moment(one.expires_at)}" if one.expires_at else ", without an expiry"
        used = f", last used {_moment(one.used_at)}" if one.used_at else ", never used"
        click.echo(f"operator {one.name}: {one.role}, since {_moment(one.made_at)}{until}{used}")
    for digest, device, expires_at in waiting:
        click.echo(f"token {digest[:12]} for {device or 'any new device'}, until {_moment(expires_at)}")


@command.command(name="events")
@click.option(
    "--last", default=50, show_default=True, type=click.IntRange(1, 100_000), help="Number of events to list."
)
@state_option
def list_events(last: int, state: str) -> None:
    """List enrollments, revocations, grants, publications and rollbacks with their times, the newest last."""
    with opened_state(state, "paramcast access") as database, database.reading() as connection:
        from paramcast.server.db import events

        found = events.newest(connection, last)
    for one in reversed(found):
        about = "".join(f", {name} {value}" for name, value in one.about.items())
        device = f" {one.device}" if one.device else ""
        click.echo(f"{_moment(one.at)}  {one.who}: {one.what}{device}{about}")


@command.command(name="withdraw-token")
@click.argument("token")
@state_option
def withdraw_token(token: str, state: str) -> None:
    """End a token for devices that was not used yet. Write TOKEN as `access list` shows it."""
    with opened_state(state, "paramcast access") as database, database.writing() as connection:
        from paramcast.server.db import identities

        identities.withdraw_enrolment(connection, token, _now_ms())


@command.command(name="rotate-key")
@click.option(
    "--key",
    "key_file",
    default=Path("paramcast.key"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Key file of `paramcast serve`.",
)
@click.option(
    "--keep-old", type=FILE, help="Move the old key to this file; without this option the old key is deleted."
)
@state_option
def rotate_key(key_file: Path, keep_old: Path | None, state: str) -> None:
    """Make a new signing key; the service signs with it from its next start on.

    Devices trust the new key because the old key endorses it. If the fleet has a root, only the root's
    delegation counts: delegate the new key before the service starts again (`paramcast root delegate`).
    """
    old, fresh = load_key(key_file), key_file.with_name(f"{key_file.name}.next")
    if not fresh.exists():  # else an earlier call was interrupted: its key may be endorsed already
        try:
            save_key(make_key(), fresh, like=key_file)
        except KeyFileError:
            if not fresh.exists():  # the second of two simultaneous calls takes the key of the first
                raise
    new = load_key(fresh)
    with opened_state(state, "paramcast access") as database, database.writing() as connection:
        from paramcast.server.db import identities

        link = endorse(old, public_key_hex(new))
        if link not in identities.all_endorsements(connection):
            identities.add_endorsement(connection, link, _now_ms())
    if keep_old is not None and not (keep_old.exists() and load_key(keep_old) == old):
        save_key(old, keep_old)
    try:
        fresh.replace(key_file)  # this overwrites the old key
    except FileNotFoundError as error:
        raise InputError(
            "another rotate-key has just changed the key; run it again if you want a further new key"
        ) from error
    where = "deleted" if keep_old is None else f"in {keep_old}"
    click.echo(f"new public key {link.new}; restart the service to sign with it; the old key is {where}")


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _now_ms() -> int:
    return int(1000 * time.time())
