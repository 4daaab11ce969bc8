"""Serving a launched service by uvicorn: its socket, TLS, and what happens as it starts and stops."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import uvicorn

from paramcast.errors import InputError
from paramcast.protocol import MAX_REQUEST_BYTES
from paramcast.server import door
from paramcast.server.app import PublicApp
from paramcast.server.door import Door, protocol_for
from paramcast.server.launch import Launched
from paramcast.server.settings import Settings

_OWN_FILES = 96
"""Files that the service opens itself: of its state, its models, its log."""


def opened_listener(host: str, port: int) -> socket.socket:
    """A socket that is bound already, so that the port is known before the service starts.

    Raises:
        InputError: If there is no such address, or the port is taken.
    """
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


def opened_internal(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    """The socket for health, metrics and operators, if it is another one. Raises as `opened_listener`."""
    if settings.internal_port is None:
        return nullcontext()
    return opened_listener(settings.internal_host, settings.internal_port)


def url_of(listener: socket.socket, settings: Settings | None = None) -> str:
    """The address at which the service answers; the internal one without `settings`."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings is not None and settings.tls_certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def http_server(
    launched: Launched,
    settings: Settings,
    announce: Callable[[], None],
    internal: socket.socket | None = None,
) -> uvicorn.Server:
    """A server for a socket: `run(sockets=[listener])`.

    Args:
        launched: The service.
        settings: Of the service.
        announce: Called once the server takes connections.
        internal: Where health, metrics and operators' routes are answered, if not where devices ask; there
            without TLS.

    Raises:
        InputError: If the certificate or its key cannot be used.
    """
    most_bytes = settings.waiting_room * MAX_REQUEST_BYTES
    common: dict[str, Any] = {"log_config": None, "access_log": False, "ws": "none"}
    public = launched.app if internal is None else PublicApp(launched.app)
    config = uvicorn.Config(
        public,
        **common,
        http=protocol_for(Door(_connections(settings), most_bytes)),
        proxy_headers=settings.behind_proxy,
        forwarded_allow_ips="*",
        # Who waits to be let in waits unseen: no more of them than are let wait inside.
        backlog=settings.waiting_room,
        timeout_graceful_shutdown=settings.drain_s,
        **_tls(settings),
    )

    inside = None
    if internal is not None:
        # A door of its own: however many strangers stand before the other one, a health check comes in.
        protocol = protocol_for(Door(_OWN_FILES, most_bytes))
        inner = uvicorn.Config(launched.app, **common, http=protocol, lifespan="off", proxy_headers=False)
        inner.load()
        inside = uvicorn.Server(inner)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup([])
            if not self.should_exit:
                await self._listen(sockets or [])
            if inside is not None and internal is not None:
                inside.lifespan = inside.config.lifespan_class(inside.config)
                await inside.startup([internal])
            announce()

        async def _listen(self, listeners: list[socket.socket]) -> None:
            """Take connections, as uvicorn does, but with an end to the wait for TLS to begin."""

            def connection() -> asyncio.Protocol:
                kind: Any = self.config.http_protocol_class
                made: asyncio.Protocol = kind(
                    config=self.config, server_state=self.server_state, app_state=self.lifespan.state
                )
                return made

            tls = self.config.ssl
            limits: dict[str, Any] = {"ssl": tls, "ssl_handshake_timeout": door.HEAD_S} if tls else {}
            for one in listeners:
                self.servers.append(
                    await asyncio.get_running_loop().create_server(
                        connection, sock=one, backlog=self.config.backlog, **limits
                    )
                )

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            launched.end_streams()  # they would go on for as long as somebody watches
            await super().shutdown(sockets)
            if inside is not None:
                await inside.shutdown(sockets)

    return Server(config)


def _connections(settings: Settings) -> int:
    """As many as are set, or as the process may open files for, less those that it needs itself."""
    if os.name != "posix":
        return settings.connections
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return settings.connections if files < 0 else min(settings.connections, max(16, files - _OWN_FILES))


def _check_private(key: Path | None) -> None:
    if os.name == "posix" and key is not None and key.exists() and key.stat().st_mode & 0o007:
        raise InputError(f"the certificate's key {key} is open to everybody; run: chmod o= {key}")


def _tls(settings: Settings) -> dict[str, Any]:
    """Uvicorn's options for TLS, tried beforehand."""
    if settings.tls_certificate is None:
        return {}
    _check_private(settings.tls_key)
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
