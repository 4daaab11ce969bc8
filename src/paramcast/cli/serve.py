"""`paramcast serve`: run the cloud service."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paramcast.cli.common import FILE, FOLDER, needs
from paramcast.errors import InputError
from paramcast.files import write_json
from paramcast.protocol.quantize import QUANTIZATIONS

if TYPE_CHECKING:
    import uvicorn

    from paramcast.server.settings import Settings


@click.command(name="serve")
@click.option(
    "--config", type=FILE, envvar="PARAMCAST_CONFIG", help="TOML file of settings: docs/operations.md."
)
@click.option(
    "--model",
    type=FOLDER,
    help="The trained model's folder.  [default: what `paramcast model publish` put in service]",
)
@click.option(
    "--bundle",
    type=FOLDER,
    multiple=True,
    help="What `paramcast export` wrote, for the page at the service's address; may be repeated.",
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.  [default: 8000]"
)
@click.option(
    "--key", type=FILE, help="File of the signing key; made on first use.  [default: paramcast.key]"
)
@click.option("--state", help="A file for SQLite, or postgresql://USER@HOST/NAME.  [default: beside the key]")
@click.option("--store", type=FOLDER, help="Folder of published models.  [default: beside a state in a file]")
@click.option(
    "--quantization", type=click.Choice(QUANTIZATIONS), help="How parameters travel.  [default: int4]"
)
@click.option(
    "--require-enrolment/--open",
    default=None,
    help="Serve enrolled devices only (`paramcast enroll`), or any.  [default: --open]",
)
@click.option("--tls-certificate", type=FILE, help="Serve HTTPS with this certificate (PEM).")
@click.option("--tls-key", type=FILE, help="The certificate's private key (PEM).")
@click.option("--tls-client-ca", type=FILE, help="Let in only clients with a certificate of it (PEM).")
@click.option(
    "--ready-file",
    type=FILE,
    help="Write the URL and the public key here, as JSON, once the service answers.",
)
def command(config: Path | None, ready_file: Path | None, **options: Any) -> None:
    """Make parameters for devices over HTTP.

    Every option is also a variable (PARAMCAST_PORT) and a key of the settings file; there are more of these.
    """
    with needs("paramcast serve", "server"):
        import uvicorn  # noqa: F401

        from paramcast.server.logs import set_up_logs
        from paramcast.server.settings import Settings
        from paramcast.video.training.serving import load_backend
    given = {name: value for name, value in options.items() if value not in (None, ())}
    settings = Settings.gather(config, **given)
    set_up_logs(settings.log_format, settings.log_level)
    with opened_listener(settings.host, settings.port) as listener:
        _serve(settings, listener, ready_file, load_backend)


_OPEN = "paramcast: warning: open to devices that are not enrolled; close it with --require-enrolment"


def _serve(
    settings: Settings, listener: socket.socket, ready_file: Path | None, load: Callable[[Path], Any]
) -> None:
    import uvicorn

    from paramcast.server.launch import launched

    url = _url(listener, "https" if settings.tls_certificate else "http")
    with launched(settings, load) as cloud:
        if not settings.require_enrolment:
            click.echo(_OPEN, err=True)

        def announce() -> None:
            if ready_file is not None:
                write_json(ready_file, {"url": url, "public_key": cloud.public_key})
            served = settings.model or "what is published"
            click.echo(f"paramcast serves {served} at {url} public key {cloud.public_key}")

        config = uvicorn.Config(
            cloud.app,
            log_config=None,
            access_log=False,
            ws="none",
            # Who waits to be let in waits unseen: no more of them than are let wait inside.
            backlog=settings.waiting_room,
            timeout_graceful_shutdown=settings.drain_s,
            **_tls(settings),
        )
        _server(config, announce, cloud.end_streams).run(sockets=[listener])


def _tls(settings: Settings) -> dict[str, Any]:
    """Uvicorn's options for TLS, tried beforehand."""
    import ssl

    if settings.tls_certificate is None:
        return {}
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        if settings.tls_client_ca is not None:
            context.load_verify_locations(settings.tls_client_ca)
    except OSError as error:  # of which ssl.SSLError is one
        raise InputError(f"the certificate, its key or the authority cannot be used: {error}") from error
    return {
        "ssl_certfile": settings.tls_certificate,
        "ssl_keyfile": settings.tls_key,
        "ssl_ca_certs": settings.tls_client_ca and str(settings.tls_client_ca),
        "ssl_cert_reqs": ssl.CERT_REQUIRED if settings.tls_client_ca else ssl.CERT_NONE,
    }


def opened_listener(host: str, port: int) -> socket.socket:
    """A socket that is bound already, so that the port is known before the service starts."""
    try:
        # asyncio switches Nagle's algorithm off only where the protocol is said to be TCP, not left at 0:
        # with it, every answer waits 40 ms for the device's delayed acknowledgement.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere the option lets two processes take one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise InputError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _server(
    config: uvicorn.Config, announce: Callable[[], None], end_streams: Callable[[], None]
) -> uvicorn.Server:
    """A server that calls `announce` once it takes connections, and `end_streams` when it takes no more."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            announce()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            end_streams()
            await super().shutdown(sockets)

    return Server(config)
