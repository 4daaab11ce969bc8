"""The whole service as a Python object, instead of `paramcast serve`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from paramcast.errors import InputError, ParamcastError
from paramcast.server.launch import launched
from paramcast.server.listening import http_server, opened_internal, opened_listener, url_of
from paramcast.server.settings import Settings


class Server:
    """Generates updates for devices: in this process with `adapt`, or over HTTP while `running`.

    ```python
    server = pc.Server("artifact", key="signing.key")
    with server.running(port=8000) as url:
        ...
    ```

    The server keeps its state in a file beside the key. Safe to call from several threads.
    """

    def __init__(self, *artifacts: Path | str, **settings: Any) -> None:
        """Serve these artifacts, or the published models if there are none.

        Args:
            artifacts: Folders that `export` wrote.
            settings: Settings of `paramcast serve` (docs/operations.md), such as `key`, `state`,
                `require_enrolment`. They take precedence over PARAMCAST_... variables.

        Raises:
            InputError: If an artifact cannot be served or a setting is invalid.
            StateError: If the state cannot be used.
        """
        given = {"artifact": list(artifacts)} if artifacts else {}
        self._settings = Settings.gather(None, **given, **settings)
        self._opened = ExitStack()
        self._launched = self._opened.enter_context(launched(self._settings))
        self._running = threading.Lock()

    @property
    def public_key(self) -> str:
        """Public key (hex) with which devices check updates."""
        return self._launched.public_key

    @property
    def keys(self) -> dict[str, Any]:
        """The signing key, the endorsements of former keys, and the root's delegation."""
        return self._launched.service.keys()

    def notice(self, model: str) -> bytes | None:
        """Return the signed notice for a base model (sha256); None if the base model is not known here.

        Raises:
            StateError: If the state cannot be read.
        """
        self._launched.service.look_at_recalls()
        return self._launched.service.notices.of(model)

    def adapt(self, data: bytes) -> bytes:
        """Turn an encoded request, unsigned, into a signed update.

        Raises:
            MessageError: If the request is malformed or does not fit the model.
            WrongModelError: If the device runs another base model.
            RefusedError: If the request had to be signed.
            BackendError: If the model fails.
            StateError: If the state cannot be written.
        """
        return self._launched.service.adapt(data)

    @contextmanager
    def running(self, host: str | None = None, port: int = 0) -> Iterator[str]:
        """Answer over HTTP in a thread until the block ends; yields the URL.

        Args:
            host: Address to listen on; by default the address of the settings.
            port: Port to listen on; 0 takes a free port.

        Raises:
            InputError: If the address cannot be listened on, or the server runs already.
        """
        if not self._running.acquire(blocking=False):
            raise InputError("this server runs already; make another one for a second address")
        try:
            with (
                opened_listener(host or self._settings.host, port) as listener,
                opened_internal(self._settings) as internal,
            ):
                yield from self._serve(listener, internal)
        finally:
            self._running.release()

    def _serve(self, listener: Any, internal: Any) -> Iterator[str]:
        ready = threading.Event()
        server = http_server(self._launched, self._settings, ready.set, internal)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="paramcast-server")
        thread.start()
        try:
            while not ready.wait(0.1):
                if not thread.is_alive():
                    raise ParamcastError("the server did not start; its log says why")
            yield url_of(listener, self._settings)
        finally:
            server.should_exit = True
            thread.join()

    def close(self) -> None:
        """Close the state; the server cannot answer any more."""
        self._opened.close()

    def __enter__(self) -> Server:
        """Use the server until the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the server."""
        self.close()
