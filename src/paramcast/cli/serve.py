"""`paramcast serve`: run the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from paramcast.cli.common import FILE, FOLDER, needs
from paramcast.files import write_json
from paramcast.protocol.quantize import QUANTIZATIONS

_OPEN = "paramcast: warning: open to devices that are not enrolled; close it with --require-enrolment"


@click.command(name="serve")
@click.argument("artifact", type=FOLDER, nargs=-1)
@click.option(
    "--config",
    type=FILE,
    envvar="PARAMCAST_CONFIG",
    help="TOML file of settings; docs/operations.md lists them.",
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free port.  [default: 8000]"
)
@click.option(
    "--key", type=FILE, help="File of the signing key; made on first use.  [default: paramcast.key]"
)
@click.option(
    "--delegation", type=FILE, help="File of the root's delegation to the key: `paramcast root delegate`."
)
@click.option("--state", help="A file for SQLite, or postgresql://USER@HOST/NAME.  [default: beside the key]")
@click.option("--store", type=FOLDER, help="Folder of published models.  [default: beside a state in a file]")
@click.option(
    "--quantization",
    type=click.Choice(QUANTIZATIONS),
    help="Number format in which parameters are sent.  [default: int4]",
)
@click.option(
    "--require-enrolment/--open",
    default=None,
    help="Serve only enrolled devices (`paramcast enroll`), or all devices.  [default: --open]",
)
@click.option("--tls-certificate", type=FILE, help="Serve HTTPS with this certificate (PEM).")
@click.option("--tls-key", type=FILE, help="The certificate's private key (PEM).")
@click.option(
    "--tls-client-ca", type=FILE, help="Accept only clients with a certificate of this authority (PEM)."
)
@click.option(
    "--ready-file",
    type=FILE,
    help="Write the URL and the public key to this JSON file when the service answers.",
)
def command(config: Path | None, ready_file: Path | None, **options: Any) -> None:
    """Serve updates for devices over HTTP, with the exported model in ARTIFACT, which may be repeated.

    Without ARTIFACT, serve the models that `paramcast model publish` has put in service. The page at the
    service's address gets its models from the same folders.

    Every option can also be set by an environment variable (such as PARAMCAST_PORT) or by a key of the
    settings file. There are more settings than options.
    """
    with needs("paramcast serve", "server"):
        from paramcast.server.launch import launched
        from paramcast.server.listening import http_server, opened_internal, opened_listener, url_of
        from paramcast.server.logs import set_up_logs
        from paramcast.server.settings import Settings
    given = {name: value for name, value in options.items() if value not in (None, ())}
    settings = Settings.gather(config, **given)
    set_up_logs(settings.log_format, settings.log_level)
    with (
        opened_listener(settings.host, settings.port) as listener,
        opened_internal(settings) as internal,
        launched(settings) as service,
    ):
        url = url_of(listener, settings)
        if not settings.require_enrolment:
            click.echo(_OPEN, err=True)

        def announce() -> None:
            if ready_file is not None:
                told = {"url": url, "public_key": service.public_key}
                inside = {"internal_url": url_of(internal)} if internal else {}
                write_json(ready_file, told | inside)
            served = ", ".join(map(str, settings.artifact)) or "the published models"
            click.echo(f"paramcast serves {served} at {url} public key {service.public_key}")

        http_server(service, settings, announce, internal).run(sockets=[listener])
