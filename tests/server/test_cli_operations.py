"""The service as an operator runs it: enrolment, TLS, settings, logs, draining, kills."""

from __future__ import annotations

import datetime
import ipaddress
import json
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import httpx2
import numpy as np
import pytest
from bundles import IMAGE_UP, MODEL, TEXT_UP, parameter_shapes
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from processes import command, run, service
from sqlalchemy import text

from paramcast.device import CloudClient, CloudError, DeviceIdentity
from paramcast.errors import InputError
from paramcast.protocol import AdaptRequest, open_package
from paramcast.server import Database
from paramcast.server.settings import Settings


def request(device: str = "cam-1", sequence: int = 0) -> AdaptRequest:
    queries = np.ones((2, TEXT_UP), "f4")
    return AdaptRequest(device, MODEL, sequence, np.ones((2, IMAGE_UP), "f4"), queries, np.arange(2))


def sequence_of(data: bytes, public_key: str, device: str = "cam-1") -> int:
    rules = {"device": device, "model": MODEL, "after": 0, "now": 0, "expected": parameter_shapes("full")}
    return open_package(data, public_key, **rules).sequence  # type: ignore[arg-type]


def test_from_the_token_to_the_package(tmp_path: Path) -> None:
    state = ("--state", tmp_path / "cloud.db")
    with service(tmp_path, "--require-enrolment") as cloud:
        assert "warning" not in cloud.log.read_text()
        token = run("enroll", "cam-1", *state).strip()
        words = ("device", "enroll", "--cloud", cloud.url, "--device-id", "cam-1")
        told = run(*words, "--token", token, "--identity", tmp_path / "id")
        identity = DeviceIdentity.load(tmp_path / "id")
        assert identity.public_key in told
        assert "ask for a new token" in run(*words, "--token", token, "--identity", tmp_path / "x", code=1)
        with CloudClient(cloud.url, identity=identity) as client:
            assert sequence_of(client.exchange(request()), cloud.public_key) == 1
            admin = run("access", "grant", "ann", "--role", "admin", *state).strip()
            headers = {"authorization": f"Bearer {admin}"}
            seen = httpx2.get(f"{cloud.url}/v1/operator/devices/cam-1", headers=headers).json()
            assert (seen["sequence"], seen["packages"][0]["form"]) == (1, "full")
            run("access", "withdraw", "ann", *state)
            assert httpx2.get(f"{cloud.url}/v1/operator/models", headers=headers).status_code == 401
            assert "revoked" in run("access", "revoke", "cam-1", *state)
            with pytest.raises(CloudError, match="revoked"):
                client.exchange(request())
        assert "no valid key" in run("access", "revoke", "cam-1", *state, code=2)
        assert "no operator" in run("access", "withdraw", "ann", *state, code=2)
        assert "device id" in run("enroll", "cam/1", *state, code=2)


def test_the_signing_key_changes_between_two_runs(tmp_path: Path) -> None:
    with service(tmp_path) as cloud:
        old = cloud.public_key
    told = run("access", "rotate-key", "--key", tmp_path / "cloud.key", "--state", tmp_path / "cloud.db")
    with service(tmp_path) as cloud:
        assert cloud.public_key != old
        assert cloud.public_key in told
        links = httpx2.get(f"{cloud.url}/v1/keys").json()["endorsements"]
        assert [(link["old"], link["new"]) for link in links] == [(old, cloud.public_key)]
    assert sorted(path.name for path in tmp_path.glob("*.key*")) == ["cloud.key"]  # the old one is gone


def test_an_open_service_warns(tmp_path: Path) -> None:
    with service(tmp_path, PARAMCAST_LOG_FORMAT="json") as cloud:
        assert "open to devices that are not enrolled" in cloud.log.read_text()


def test_under_way_is_answered_and_new_is_refused_at_the_end(tmp_path: Path) -> None:
    gate, answers = tmp_path / "gate", list[httpx2.Response]()
    gate.touch()
    with service(tmp_path, GATE=str(gate)) as cloud:
        body = request().encode()
        asking = threading.Thread(
            target=lambda: answers.append(httpx2.post(f"{cloud.url}/v1/adapt", content=body, timeout=60))
        )
        asking.start()
        wait_for(lambda: gate.with_name("gate.entered").exists())
        cloud.process.send_signal(signal.SIGTERM)
        host, port = cloud.url.removeprefix("http://").split(":")

        def refused() -> bool:
            try:
                socket.create_connection((host, int(port)), 5).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_for(refused)
        assert answers == []
        gate.unlink()
        asking.join(60)
        assert answers[0].status_code == 200
        assert cloud.process.wait(60) in (0, -signal.SIGTERM)


def test_killed_under_load_it_gives_no_number_twice(tmp_path: Path) -> None:
    """All that left the service, over two kills: every number of a device once, and rising."""
    seen: dict[str, list[int]] = {f"cam-{place}": [] for place in range(4)}
    for _ in range(2):
        with service(tmp_path, PARAMCAST_LOG_LEVEL="error") as cloud:

            def ask(device: str, url: str = cloud.url, key: str = cloud.public_key) -> None:
                with httpx2.Client() as client:
                    while True:
                        try:
                            reply = client.post(f"{url}/v1/adapt", content=request(device).encode())
                        except httpx2.TransportError:
                            return
                        seen[device].append(sequence_of(reply.content, key, device))

            before = sum(map(len, seen.values()))
            threads = [threading.Thread(target=ask, args=(device,)) for device in seen]
            for thread in threads:
                thread.start()
            wait_for(lambda before=before: sum(map(len, seen.values())) >= before + 60)  # type: ignore[misc]
            cloud.stop(signal.SIGKILL)
            for thread in threads:
                thread.join()
    for numbers in seen.values():
        assert numbers == sorted(set(numbers))
        assert len(numbers) > 10


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An authority, and what it signed for the cloud and for a device; PEM files."""
    folder, files = tmp_path_factory.mktemp("tls"), {}
    authority_key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    for name in ("authority", "cloud", "device"):
        key = authority_key if name == "authority" else ec.generate_private_key(ec.SECP256R1())
        subject = (
            authority if name == "authority" else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=name == "authority", path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
            )
            .sign(authority_key, hashes.SHA256())
        )
        files[name] = folder / f"{name}.pem"
        files[name].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[f"{name} key"] = folder / f"{name}.key"
        files[f"{name} key"].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        files[f"{name} key"].chmod(0o600)
    return files


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(tmp_path: Path, certificates: dict[str, Path], mutual: bool) -> None:
    options = ["--tls-certificate", certificates["cloud"], "--tls-key", certificates["cloud key"]]
    if mutual:
        options += ["--tls-client-ca", certificates["authority"]]
    trusting = ssl.create_default_context(cafile=str(certificates["authority"]))
    showing = ssl.create_default_context(cafile=str(certificates["authority"]))
    showing.load_cert_chain(certificates["device"], certificates["device key"])
    with service(tmp_path, *options) as cloud:
        assert cloud.url.startswith("https://")
        with CloudClient(cloud.url, tls=showing) as client:
            assert sequence_of(client.exchange(request()), cloud.public_key) == 1
        for context in [ssl.create_default_context(), *([trusting] if mutual else [])]:
            with pytest.raises((httpx2.TransportError, ssl.SSLError)):
                httpx2.get(f"{cloud.url}/v1/model", verify=context)


def test_settings_come_from_options_variables_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cloud.toml"
    file.write_text('port = 1\nburst = 2\nkeep_days = 3\nhost = "localhost"\n')
    monkeypatch.setenv("PARAMCAST_PORT", "4")
    monkeypatch.setenv("PARAMCAST_BURST", "5")
    settings = Settings.gather(file, burst=6)
    assert (settings.host, settings.port, settings.burst, settings.keep_days) == ("localhost", 4, 6, 3)
    assert settings.where == "paramcast.db"
    assert Settings.gather(None, key=Path("a/b.key")).where == "a/b.db"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ports = 1\n", "ports"),
        ("port = 70000\n", "port"),
        ("port = \n", "no TOML"),
        ('tls_key = "x"\n', "both"),
        ('tls_client_ca = "x"\n', "needs tls_certificate"),
        ('quantization = "int2"\n', "quantization"),
    ],
)
def test_impossible_settings_are_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(InputError, match=told):
        Settings.gather(tmp_path / "x.toml")


def test_what_the_user_can_mend_is_one_line(tmp_path: Path) -> None:
    words = ("serve", "--port", 0, "--key", tmp_path / "k")
    (tmp_path / "no.pem").write_text("x")
    for options, told in [
        (("--config", tmp_path / "none.toml"), "no settings file"),
        (("--tls-certificate", tmp_path / "no.pem", "--tls-key", tmp_path / "no.pem"), "certificate"),
        (("--state", "mysql://host/name"), "sqlite or postgresql"),
    ]:
        done = subprocess.run(command(*words, *options), capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert told in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_every_setting_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else str(field.default).lower()
        assert f"| `{name}` | {default} | {field.description} |" in page, name


def test_the_log_is_json_where_it_is_asked(tmp_path: Path) -> None:
    gone = tmp_path / "state" / "cloud.db"
    with service(tmp_path, "--state", gone, PARAMCAST_LOG_FORMAT="json") as cloud:
        assert httpx2.get(f"{cloud.url}/readyz").json()["status"] == "ready"
        database = Database.open(gone)
        with database.writing() as connection:
            connection.execute(text("DROP TABLE packages"))
            connection.execute(text("DROP TABLE devices"))
        database.close()
        wait_for(lambda: httpx2.get(f"{cloud.url}/readyz").status_code == 503)  # a verdict is kept a second
        reply = httpx2.post(f"{cloud.url}/v1/adapt", content=request().encode())
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert httpx2.get(f"{cloud.url}/healthz").status_code == 200  # the process is well: no restart helps
        cloud.stop()
        lines = [json.loads(line) for line in cloud.log.read_text().splitlines() if line.startswith("{")]
    assert {"time", "level", "logger", "message"} <= lines[-1].keys()
    assert any("devices" in line["message"] and line["level"] == "ERROR" for line in lines)


def wait_for(condition: object) -> None:
    """Until something that is on its way in another process has arrived."""
    end = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)
