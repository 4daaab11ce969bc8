"""`paramcast model`: publish, list, roll back and recall the models that a server serves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paramcast.cli.cloud_options import opened_state, state_option, store_option
from paramcast.cli.common import FOLDER, needs
from paramcast.errors import InputError

if TYPE_CHECKING:
    from paramcast.server.db.published import ModelVersion


@click.group(name="model")
def command() -> None:
    """Publish models to a running server, list them, roll them back, recall their updates."""


@command.command(context_settings={"show_default": True})
@click.argument("artifact", type=FOLDER)
@click.option(
    "--share",
    default=100,
    type=click.IntRange(1, 100),
    help="Percent of the devices; less than 100 is a canary.",
)
@state_option
@store_option
def publish(artifact: Path, share: int, state: str, store: Path | None) -> None:
    """Publish the exported model in ARTIFACT; running services load it within seconds.

    Publish the same folder again with a larger share to promote a canary.
    """
    with needs("paramcast model", "server"):
        from paramcast.server import ModelStore, Served
        from paramcast.server.db import published
        from paramcast.server.trial import check_backend
    kept = ModelStore.beside(state, store)
    backend = Served.open(artifact).backend  # first: a model that cannot be served is not published
    check_backend(backend)
    with opened_state(state, "paramcast model") as database:
        digest = kept.add(artifact)
        with database.writing() as connection:
            version = published.publish(
                connection,
                model=backend.model,
                digest=digest,
                form=backend.form,
                task=backend.task,
                share=share,
                now_ms=_now_ms(),
            )
    click.echo(f"version {version.version} of base model {version.model} serves {share} % of its devices")


@command.command(name="list")
@state_option
def list_(state: str) -> None:
    """List every version, the newest first; versions in service are marked."""
    with opened_state(state, "paramcast model") as database, database.reading() as connection:
        from paramcast.server.db import published

        serving = {version.version for version in published.in_service(connection)}
        versions = published.all_versions(connection)
    click.echo(f"{'version':>7}  {'base model':12}  {'form':10}  {'task':9}  {'share':>5}  published")
    for version in versions:
        at = datetime.fromtimestamp(version.published_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        mark = "in service" if version.version in serving else ""
        mark = "withdrawn" if version.withdrawn_at else mark
        click.echo(
            f"{version.version:>7}  {version.model[:12]}  {version.form:10}  {version.task:9}  "
            f"{version.share:>4}%  {at}  {mark}".rstrip()
        )


@command.command()
@click.argument("model", required=False)
@click.option("--version", type=int, help="Expected newest version: fail if a newer version is in service.")
@state_option
def rollback(model: str | None, version: int | None, state: str) -> None:
    """Withdraw the newest version from service, so that the version before it serves again.

    MODEL is the base model (the first digits of its sha256); it is needed only if there are several. All
    other versions of the same files are withdrawn too, such as a canary. A signed notice makes devices drop
    the updates of these versions.
    """
    with opened_state(state, "paramcast model") as database, database.writing() as connection:
        from paramcast.server.db import published

        gone = published.withdraw(connection, model, _now_ms(), version)
        left = published.in_service(connection, gone[0].model)
    also = f" and, of the same files, {_numbers(gone[1:])}" if gone[1:] else ""
    click.echo(f"version {gone[0].version}{also} is withdrawn; in service: {_numbers(left)}")


@command.command()
@click.argument("model", required=False)
@click.option("--to-base", is_flag=True, help="Let devices run their base model until --resume.")
@click.option("--resume", is_flag=True, help="Let devices apply updates again after --to-base.")
@state_option
def recall(model: str | None, to_base: bool, resume: bool, state: str) -> None:
    """Recall every update that was made until now for base model MODEL (its sha256, or its first digits).

    Devices drop these updates when they receive the signed notice, within an hour if they are online, and
    request new ones. `rollback` recalls only the updates of the withdrawn versions. Use `recall` in all other
    cases, such as after the theft of a signing key.
    """
    if to_base and resume:
        raise InputError("--to-base and --resume contradict each other")
    with opened_state(state, "paramcast model") as database, database.writing() as connection:
        from paramcast.server.db import recalls

        named = recalls.the_model(connection, model)
        if to_base or resume:
            said = recalls.send_to_base(connection, named, to_base, _now_ms())
        else:
            said = recalls.call_back(connection, named, _now_ms())
    if to_base:
        click.echo(
            f"devices of base model {named[:12]} run it until you run: paramcast model recall --resume"
        )
    elif resume:
        click.echo(f"devices of base model {named[:12]} may apply updates again")
    else:
        at = datetime.fromtimestamp(said.since / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        click.echo(f"updates for base model {named[:12]} that were made before {at} are called back")


def _numbers(versions: Sequence[ModelVersion]) -> str:
    return ", ".join(str(one.version) for one in versions)


def _now_ms() -> int:
    return int(1000 * time.time())
