"""`paramcast serve`: run the cloud service."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paramcast.cli.cloud_options import model_store, opened_state, store_option
from paramcast.errors import InputError, MissingExtraError
from paramcast.files import write_json
from paramcast.wire import load_or_make_key, public_key_hex
from paramcast.wire.quantise import QUANTISATIONS

if TYPE_CHECKING:
    import uvicorn

    from paramcast.cloud import Database


@click.command(name="serve", context_settings={"show_default": True})
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    help="Serve the trained model in this folder.  [default: what `paramcast model publish` put in service]",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--port", default=8000, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one."
)
@click.option(
    "--key",
    "key_file",
    default=Path("paramcast.key"),
    type=click.Path(path_type=Path),
    help="File with the key that signs packages; made on first use.",
)
@click.option(
    "--state",
    envvar="PARAMCAST_STATE",
    help="A file for SQLite, or postgresql://USER@HOST/NAME.  [default: beside the key]",
)
@store_option
@click.option(
    "--quantisation", default="int8", type=click.Choice(QUANTISATIONS), help="How parameters travel."
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="Write the URL and the public key here, as JSON, once the service answers.",
)
def command(
    model_dir: Path | None,
    host: str,
    port: int,
    key_file: Path,
    state: str | None,
    store: Path | None,
    quantisation: str,
    ready_file: Path | None,
) -> None:
    """Make parameters for devices over HTTP."""
    uvicorn, create_app, load_backend = _imports()
    listener = _listen(host, port)
    url = _url(listener)
    key = load_or_make_key(key_file)
    state = state or str(key_file.with_suffix(".db"))
    with opened_state(state, "paramcast serve") as database:
        models = _models(load_backend, model_dir, database, store, state)
        app = create_app(models, key, quantisation=quantisation, database=database)

        def announce() -> None:
            if ready_file is not None:
                write_json(ready_file, {"url": url, "public_key": public_key_hex(key)})
            served = model_dir or "what is published"
            click.echo(f"paramcast serves {served} at {url} public key {public_key_hex(key)}")

        config = uvicorn.Config(app, log_level="warning", access_log=False)
        _server(config, announce).run(sockets=[listener])


def _models(
    load_backend: Callable[[Path], Any],
    model_dir: Path | None,
    database: Database,
    store: Path | None,
    state: str,
) -> Any:
    """The model in `model_dir`, else what is published."""
    from paramcast.cloud import PublishedModels

    if model_dir is not None:
        return load_backend(model_dir)
    return PublishedModels(database, model_store(store, state), load_backend)


def _imports() -> tuple[Any, Callable[..., Any], Callable[[Path], Any]]:
    """uvicorn, create_app and load_backend, which a device's install does not have."""
    try:
        import uvicorn

        from paramcast.cloud import create_app
        from paramcast.training.serving import load_backend
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("paramcast"):
            raise
        raise MissingExtraError("paramcast serve", "cloud") from error
    return uvicorn, create_app, load_backend


def _listen(host: str, port: int) -> socket.socket:
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


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _server(config: uvicorn.Config, announce: Callable[[], None]) -> uvicorn.Server:
    """A server that calls `announce` once it takes connections."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            announce()

    return Server(config)
