"""Runs a launched service with uvicorn: its sockets, TLS, start and shutdown."""

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
"""Number of files that the service opens itself: for its state, its models and its log."""


def opened_listener(host: str, port: int) -> socket.socket:
    """Bind a socket, so that the port is known before the service starts.

    Raises:
        InputError: If there is no such address, or the port is in use.
    """
    try:
        # asyncio switches Nagle's algorithm off only if the protocol is given as TCP, not as 0. With the
        # algorithm, every answer waits 40 ms for the device's delayed acknowledgement.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":  # on other systems the option lets two processes use one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise InputError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def opened_internal(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    """Bind the separate socket for health, metrics and operators, if one is set.

    Raises:
        InputError: If there is no such address, or the port is in use.
    """
    if settings.internal_port is None:
        return nullcontext()
    return opened_listener(settings.internal_host, settings.internal_port)


def url_of(listener: socket.socket, settings: Settings | None = None) -> str:
    """Return the URL of a listening socket; without `settings` it is http, as for the internal socket."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings is not None and settings.tls_certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def http_server(
    launched: Launched,
    settings: Settings,
    announce: Callable[[], None],
    internal: socket.socket | None = None,
) -> uvicorn.Server:
    """Make a server for a socket; start it with `run(sockets=[listener])`.

    Args:
        launched: The service.
        settings: Settings of the service.
        announce: Called when the server accepts connections.
        internal: Separate socket for health, metrics and operators' routes, without TLS; None: the socket for
            devices answers them.

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
        # The service does not see connections that wait to be accepted; allow as many as waiting requests.
        backlog=settings.waiting_room,
        timeout_graceful_shutdown=settings.drain_s,
        **_tls(settings),
    )

    inside = None
    if internal is not None:
        # Separate limits: health checks are answered even if the public socket is flooded.
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
            """Accept connections as uvicorn does, but with a time limit for the TLS handshake."""

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
            launched.end_streams()  # they would last as long as somebody watches
            await super().shutdown(sockets)
            if inside is not None:
                await inside.shutdown(sockets)

    return Server(config)


def _connections(settings: Settings) -> int:
    """Return the limit of connections: the setting, or fewer if the process may not open enough files."""
    if os.name != "posix":
        return settings.connections
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return settings.connections if files < 0 else min(settings.connections, max(16, files - _OWN_FILES))


def _check_private(key: Path | None) -> None:
    if os.name == "posix" and key is not None and key.exists() and key.stat().st_mode & 0o007:
        raise InputError(f"the certificate's key {key} is open to everybody; run: chmod o= {key}")


def _tls(settings: Settings) -> dict[str, Any]:
    """Return uvicorn's options for TLS, after a trial of the files."""
    if settings.tls_certificate is None:
        return {}
    _check_private(settings.tls_key)
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        if settings.tls_client_ca is not None:
            context.load_verify_locations(settings.tls_client_ca)
    except OSError as error:  # ssl.SSLError is a subclass
        raise InputError(f"the certificate, its key or the authority cannot be used: {error}") from error
    return {
        "ssl_certfile": settings.tls_certificate,
        "ssl_keyfile": settings.tls_key,
        "ssl_ca_certs": settings.tls_client_ca and str(settings.tls_client_ca),
        "ssl_cert_reqs": ssl.CERT_REQUIRED if settings.tls_client_ca else ssl.CERT_NONE,
    }
