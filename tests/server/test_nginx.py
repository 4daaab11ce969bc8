"""`deploy/nginx.conf` before a real service, in a real nginx."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from backends import TinyBackend, serving
from bundles import IMAGE_UP, MODEL, TEXT_UP

from paramcast.protocol import AdaptRequest, make_key
from paramcast.server import create_app

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
REQUEST = AdaptRequest(
    "cam-1", MODEL, 0, np.ones((2, IMAGE_UP), "f4"), np.ones((2, TEXT_UP), "f4"), np.arange(2)
).encode()
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, ssl.SSLContext]]:
    """The port of nginx, and whom to trust."""
    nginx = shutil.which("nginx", path=PATH)
    if nginx is None:
        pytest.skip("there is no nginx here: run tests/server/bring_nginx.sh as root")
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    made = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "tls.key", "-out", "tls.pem"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)
    with serving(create_app(TinyBackend(), make_key())) as url:
        text = CONFIGURATION.read_text()
        for before, after in {
            "http {": "http {\n" + "".join(f"{kind}_temp_path {folder}/{kind};" for kind in KINDS),
            "listen 443": f"listen 127.0.0.1:{port}",
            "127.0.0.1:8000": url.removeprefix("http://"),
            "/etc/paramcast/": f"{folder}/",
            "client_header_timeout 10s": "client_header_timeout 1s",
            "client_body_timeout 10s": "client_body_timeout 1s",
            "burst=200": "burst=30",
            "rate=50r/s": "rate=1r/s",
            "worker_processes auto": f"pid {folder}/pid;\nuser root;\nworker_processes 1",
        }.items():
            assert before in text, before
            text = text.replace(before, after)
        (folder / "nginx.conf").write_text(text if os.geteuid() == 0 else text.replace("user root;", ""))
        words = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        try:
            end = time.monotonic() + 30
            while not listens(port):
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < end
                time.sleep(0.05)
            yield port, ssl.create_default_context(cafile=str(folder / "tls.pem"))
        finally:
            process.terminate()
            process.communicate(timeout=30)


KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def test_devices_are_served_and_strangers_are_not(proxied: tuple[int, ssl.SSLContext]) -> None:
    port, trusted = proxied
    with httpx2.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted) as client:
        assert client.post("/v1/adapt", content=REQUEST).status_code == 200
        assert client.get("/v1/keys").headers["x-content-type-options"] == "nosniff"
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/operator/me"):
            assert client.get(path).status_code == 404
        assert client.post("/v1/adapt", content=bytes(270_000)).status_code == 413
    for half in (b"POST /v1/adapt HTTP/1.1\r\nHost: x\r\n", HEAD + b"x" * 100):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            trusted.wrap_socket(plain, server_hostname="127.0.0.1") as one,
        ):
            one.sendall(half)
            assert b" 200 " not in (one.recv(100) or b"")  # closed, or 408
    with httpx2.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted) as client:
        statuses = [client.post("/v1/adapt", content=REQUEST).status_code for _ in range(40)]
    assert statuses[0] == 200
    assert statuses[-1] == 429


HEAD = b"POST /v1/adapt HTTP/1.1\r\nHost: x\r\ncontent-length: 1000\r\n\r\n"
