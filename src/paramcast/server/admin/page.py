"""The page that runs a device in a browser: built from `web/`, packed with this package, served at `/`."""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

STATIC = Path(__file__).parents[1] / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".wasm": "application/wasm",
    ".md": "text/markdown; charset=utf-8",
}
SECURITY = {
    # The page may connect only to its own service, so that no code in it can send pictures anywhere else.
    # (blob: is the video file that the user opened.)
    "content-security-policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval'",
            "worker-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "media-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    ),
    # Browsers allow threads in WebAssembly only with isolation from other origins.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


_PIECE = 64 * 1024
"""Bytes of a file that are sent at once; the next piece waits until the client has read this one."""


@dataclass(frozen=True)
class _Asset:
    media_type: str
    gzipped: bytes
    size: int
    etag: str

    def pieces(self, packed: bool) -> Iterator[bytes]:
        """Yield the file, packed or not, in pieces."""
        with io.BytesIO(self.gzipped) as whole, gzip.GzipFile(fileobj=whole) as unpacked:
            source: io.BufferedIOBase = whole if packed else unpacked
            while piece := source.read(_PIECE):
                yield piece


class _Pieces(Response):
    """A response in pieces, so that a client that does not read holds one piece, not the whole file."""

    def __init__(self, asset: _Asset, headers: dict[str, str], packed: bool) -> None:
        """Answer with a file of the page, packed with gzip or not."""
        size = len(asset.gzipped) if packed else asset.size
        coding = {"content-encoding": "gzip"} if packed else {}
        super().__init__(
            headers={**headers, **coding, "content-length": str(size)}, media_type=asset.media_type
        )
        self._asset, self._packed = asset, packed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file; every `send` waits until the connection takes more."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for piece in self._asset.pieces(self._packed):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@cache
def _asset(path: Path) -> _Asset:
    """Read a file of the page; large files are already packed as `NAME.gz`."""
    packed = path.with_name(f"{path.name}.gz")
    data = packed.read_bytes() if packed.exists() else gzip.compress(path.read_bytes(), mtime=0)
    size = int.from_bytes(data[-4:], "little")  # gzip's own record of it, at the end
    return _Asset(_TYPES[path.suffix], data, size, f'"{hashlib.sha256(data).hexdigest()[:32]}"')


def page_routes() -> APIRouter:
    """Make the routes of the page and its files."""
    router = APIRouter(include_in_schema=False)
    names = {path.name.removesuffix(".gz") for path in (STATIC / "assets").iterdir()}

    @router.get("/")
    def index(request: Request) -> Response:
        return _answer(request, STATIC / "index.html", "no-cache")

    @router.get("/licenses.md")
    def licenses(request: Request) -> Response:
        return _answer(request, STATIC / "licenses.md", "no-cache")

    @router.get("/assets/{name}")
    def asset(request: Request, name: str) -> Response:
        if name not in names:
            return PlainTextResponse("there is no such file", 404, SECURITY)
        # The name of an asset contains a hash of its content, so that it can be cached without a limit.
        return _answer(request, STATIC / "assets" / name, "public, max-age=31536000, immutable")

    return router


def _answer(request: Request, path: Path, caching: str) -> Response:
    asset = _asset(path)
    headers = {**SECURITY, "etag": asset.etag, "cache-control": caching, "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return _Pieces(asset, headers, "gzip" in request.headers.get("accept-encoding", ""))
