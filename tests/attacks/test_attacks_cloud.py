"""A service that enrols its devices: one attack for each rule of who is let in, over HTTP."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from backends import TinyBackend, serving
from bundles import IMAGE_UP, MODEL, TEXT_UP

from paramcast.errors import InputError
from paramcast.protocol import (
    MAX_REQUEST_BYTES,
    AdaptRequest,
    BadSignature,
    Endorsement,
    MessageError,
    SigningKey,
    authorize,
    endorse,
    follow,
    make_key,
    new_nonce,
    public_key_hex,
)
from paramcast.protocol.credentials import Credentials, check_time, prove_key
from paramcast.server import Database, ModelStore, RequestGuard, create_app
from paramcast.server.db import identities

CLOUD_KEY, DEVICE_KEY, OTHER_KEY, REVOKED_KEY = (make_key() for _ in range(4))
DEVICES = {"cam-1": DEVICE_KEY, "cam-2": OTHER_KEY, "cam-3": REVOKED_KEY}


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Sent:
    """A request as an attacker may change it; `signed` says how it was signed."""

    body: bytes
    header: str | None
    path: str = "/v1/adapt"


def request(device: str = "cam-1") -> bytes:
    queries = np.ones((2, TEXT_UP), "f4")
    return AdaptRequest(device, MODEL, 0, np.ones((2, IMAGE_UP), "f4"), queries, np.arange(2)).encode()


def signed(
    key: SigningKey = DEVICE_KEY,
    device: str = "cam-1",
    body: bytes | None = None,
    time_us: int | None = None,
    path: str = "/v1/adapt",
    method: str = "POST",
) -> Sent:
    body = request() if body is None else body
    at = now_us() if time_us is None else time_us
    nonce = new_nonce()
    header = authorize(key, device=device, method=method, path=path, body=body, time_us=at, nonce=nonce)
    return Sent(body, header)


class Cloud:
    def __init__(self, url: str, database: Database) -> None:
        self.url, self.database = url, database

    def post(self, sent: Sent) -> httpx2.Response:
        headers = {} if sent.header is None else {"authorization": sent.header}
        return httpx2.post(self.url + sent.path, content=sent.body, headers=headers)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    database = Database.temporary()
    with database.writing() as connection:
        for device, key in DEVICES.items():
            token = identities.new_enrolment(connection, device, 0, 10**15)
            identities.enrol(connection, token, device, public_key_hex(key), 1)
        identities.revoke(connection, "cam-3", 2)
    app = create_app(TinyBackend(), CLOUD_KEY, database=database, gate=RequestGuard(required=True))
    with serving(app) as url:
        yield Cloud(url, database)


def part(sent: Sent, place: int, value: str) -> Sent:
    """One part of the header is another."""
    parts = (sent.header or "").split(" ")
    parts[place] = value
    return replace(sent, header=" ".join(parts))


ATTACKS: dict[str, tuple[Callable[[], Sent], int, str]] = {
    "unsigned": (lambda: Sent(request(), None), 401, "unsigned"),
    "signed by another key": (lambda: signed(make_key()), 401, "unknown"),
    "signed by another device's key": (lambda: signed(OTHER_KEY), 401, "unknown"),
    "another device's request": (lambda: signed(OTHER_KEY, "cam-2"), 401, "foreign"),
    "another device's name in the header": (lambda: part(signed(), 1, "cam-2"), 401, "foreign"),
    "body changed": (lambda: replace(signed(), body=request()[:-1] + b"\x00"), 401, "unknown"),
    "time changed": (lambda: part(signed(), 2, str(now_us() + 5)), 401, "unknown"),
    "nonce changed": (lambda: part(signed(), 3, new_nonce()), 401, "unknown"),
    "signed for another path": (lambda: signed(path="/v1/feedback"), 401, "unknown"),
    "signed for another method": (lambda: signed(method="GET"), 401, "unknown"),
    "never enrolled": (lambda: signed(make_key(), "cam-9", request("cam-9")), 401, "unknown"),
    "revoked": (lambda: signed(REVOKED_KEY, "cam-3", request("cam-3")), 401, "revoked"),
    "of an hour ago": (lambda: signed(time_us=now_us() - 3_600_000_000), 401, "clock"),
    "of the future": (lambda: signed(time_us=now_us() + 3_600_000_000), 401, "clock"),
    "of the end of time": (lambda: signed(time_us=10**16 - 1), 401, "clock"),
    "no header": (lambda: replace(signed(), header=""), 401, "malformed"),
    "another scheme": (lambda: replace(signed(), header="Bearer x"), 401, "malformed"),
    "more in the header": (lambda: replace(signed(), header=f"{signed().header} x"), 401, "malformed"),
    "path in the device's name": (lambda: part(signed(), 1, "../cam-1"), 401, "malformed"),
    "negative time": (lambda: part(signed(), 2, "-1"), 401, "malformed"),
    "time of other digits": (lambda: part(signed(), 2, "1e15"), 401, "malformed"),
    "nonce of other length": (lambda: part(signed(), 3, "AAAA"), 401, "malformed"),
    "signature cut": (lambda: part(signed(), 4, "AAAA"), 401, "malformed"),
    "signature of other letters": (lambda: part(signed(), 4, "!" * 86), 401, "malformed"),
    "header of 100 kB": (lambda: part(signed(), 3, "A" * 50_000), 401, "malformed"),
    "oversize": (lambda: signed(body=bytes(MAX_REQUEST_BYTES + 1)), 413, ""),
    "foreign model": (
        lambda: signed(body=request().replace(MODEL.encode(), b"f" * 64)),
        409,
        "",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(cloud: Cloud, attack: str) -> None:
    make, status, code = ATTACKS[attack]
    assert cloud.post(signed()).status_code == 200
    reply = cloud.post(make())
    assert (reply.status_code, reply.json().get("code", "")) == (status, code), reply.text
    assert len(reply.content) < 600
    assert cloud.post(signed()).status_code == 200  # and the device is not locked out


def test_a_stranger_is_not_told_which_names_are_enrolled_or_revoked(cloud: Cloud) -> None:
    """On every route that reads a signature; whoever has a key that has ended is told so."""
    report, stranger = b'{"sequence": 1, "applied": true}', make_key()
    for path, users in (("/v1/adapt", ("", ":anna")), ("/v1/feedback", ("",))):
        told = set()
        for name in (device + user for device in ("cam-1", "cam-3", "cam-9") for user in users):
            body = report if path == "/v1/feedback" else request(name)
            reply = cloud.post(replace(signed(stranger, name, body, path=path), path=path))
            told.add((reply.status_code, reply.text.replace(name, "NAME")))
        assert {status for status, _ in told} == {401}
        assert len(told) == 1, told
    mine = cloud.post(signed(REVOKED_KEY, "cam-3", request("cam-3:anna")))
    assert mine.json()["code"] == "revoked"


def test_replayed_and_older_ones_are_refused_also_by_the_next_process(cloud: Cloud) -> None:
    older, sent = signed(), signed()
    assert cloud.post(sent).status_code == 200
    again = cloud.post(sent)
    assert (again.status_code, again.json()["code"]) == (401, "replayed")
    assert cloud.post(older).json()["code"] == "replayed"
    app = create_app(TinyBackend(), CLOUD_KEY, database=cloud.database, gate=RequestGuard(required=True))
    with serving(app) as url:
        assert Cloud(url, cloud.database).post(sent).json()["code"] == "replayed"


def test_the_time_that_is_told_is_signed_for_this_request_only(cloud: Cloud) -> None:
    sent = signed(time_us=now_us() - 3_600_000_000)
    told = cloud.post(sent).json()
    nonce = Credentials.read(str(sent.header)).nonce
    check_time(public_key_hex(CLOUD_KEY), nonce, told["time_us"], told["signature"])
    for key, other, time_us in [
        (make_key(), nonce, told["time_us"]),
        (CLOUD_KEY, new_nonce(), told["time_us"]),
        (CLOUD_KEY, nonce, told["time_us"] + 1),
    ]:
        with pytest.raises(BadSignature):
            check_time(public_key_hex(key), other, time_us, told["signature"])


def enrolment(token: str, device: str, key: SigningKey, changes: dict[str, Any]) -> bytes:
    proof = prove_key(key, device, token)
    shown = {"token": token, "device": device, "public_key": public_key_hex(key), "proof": proof}
    return json.dumps(shown | changes).encode()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"token": "guessed"}, 403),  # the proof is over the token
        ({"public_key": public_key_hex(OTHER_KEY)}, 403),  # somebody else's key
        ({"device": "cam-1"}, 403),
        ({"device": "../x"}, 422),
        ({"device": 5}, 422),
        ({"proof": "0" * 128}, 403),
        ({"more": 1}, 422),
        ({"token": "x" * 101}, 422),
    ],
)
def test_attacks_on_enrolment(cloud: Cloud, changes: dict[str, Any], status: int) -> None:
    with cloud.database.writing() as connection:
        token = identities.new_enrolment(connection, "cam-8", now_us() // 1000, 10**9)
    body = enrolment(token, "cam-8", make_key(), changes)
    headers = {"content-type": "application/json"}
    reply = httpx2.post(f"{cloud.url}/v1/enrol", content=body, headers=headers)
    assert reply.status_code == status, reply.text
    right = httpx2.post(
        f"{cloud.url}/v1/enrol", content=enrolment(token, "cam-8", make_key(), {}), headers=headers
    )
    assert right.status_code == 200  # the token is not used up by it


def test_nobody_takes_another_s_key_as_the_next(cloud: Cloud) -> None:
    for key, status in ((OTHER_KEY, 403), (DEVICE_KEY, 200)):
        proof = prove_key(key, "cam-1", "next")
        body = json.dumps({"public_key": public_key_hex(key), "proof": proof}).encode()
        sent = signed(body=body, path="/v1/key")
        assert cloud.post(replace(sent, path="/v1/key")).status_code == status
    unproved = json.dumps({"public_key": public_key_hex(make_key()), "proof": "0" * 128}).encode()
    sent = signed(body=unproved, path="/v1/key")
    assert cloud.post(replace(sent, path="/v1/key")).status_code == 403


def test_a_key_that_was_left_behind_cannot_lock_the_device_out(cloud: Cloud) -> None:
    """For a day it still signs requests, but names no other key."""
    old, new = make_key(), make_key()
    with cloud.database.writing() as connection:
        token = identities.new_enrolment(connection, "cam-7", 0, 10**15)
        identities.enrol(connection, token, "cam-7", public_key_hex(old), 1)

    def change(signer: SigningKey, key: SigningKey) -> int:
        proof = prove_key(key, "cam-7", "next")
        body = json.dumps({"public_key": public_key_hex(key), "proof": proof}).encode()
        sent = signed(signer, "cam-7", body, path="/v1/key")
        return cloud.post(replace(sent, path="/v1/key")).status_code

    assert change(old, new) == 200
    assert change(old, make_key()) == 403
    assert change(old, new) == 200  # the device may have lost the answer
    assert change(new, make_key()) == 200


def test_a_token_for_whoever_comes_takes_no_enrolled_device_s_name(cloud: Cloud) -> None:
    with cloud.database.writing() as connection:
        token = identities.new_enrolment(connection, None, now_us() // 1000, 10**9)
    headers = {"content-type": "application/json"}
    for device, status in (("cam-1", 403), ("cam-6", 200)):
        body = enrolment(token, device, make_key(), {})
        assert httpx2.post(f"{cloud.url}/v1/enrol", content=body, headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/v1/enrol", "/v1/key", "/v1/feedback", "/v1/operator/enrolments"])
def test_no_route_reads_more_than_the_limit(cloud: Cloud, path: str) -> None:
    body = b'{"token": "' + b"x" * MAX_REQUEST_BYTES + b'"}'
    headers = {"content-type": "application/json", "authorization": str(signed(body=body, path=path).header)}
    assert httpx2.post(cloud.url + path, content=body, headers=headers).status_code == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"[" * 100_000, b'{"sequence": 1e999, "applied": true}', b'{"sequence":' + b"9" * 5000 + b"}"],
)
def test_json_that_is_none_is_refused(cloud: Cloud, body: bytes) -> None:
    sent = replace(signed(body=body, path="/v1/feedback"), path="/v1/feedback")
    assert cloud.post(sent).status_code == 422


def test_a_device_is_no_operator(cloud: Cloud) -> None:
    path = "/v1/operator/models"
    header = signed(body=b"", path=path, method="GET").header
    assert httpx2.get(cloud.url + path, headers={"authorization": str(header)}).status_code == 401


CHAIN = [make_key() for _ in range(3)]
LINKS = [endorse(CHAIN[0], public_key_hex(CHAIN[1])), endorse(CHAIN[1], public_key_hex(CHAIN[2]))]


@pytest.mark.parametrize(
    "links",
    [
        [replace(LINKS[0], new=public_key_hex(OTHER_KEY))],
        [replace(LINKS[0], signature=LINKS[1].signature)],
        [replace(LINKS[0], signature="no hex")],
        [replace(LINKS[0], signature="00")],
        [LINKS[0], endorse(CHAIN[1], public_key_hex(CHAIN[0]))],
        [endorse(CHAIN[0], "no key")],
        [LINKS[0], Endorsement(LINKS[1].old, LINKS[1].new, endorse(OTHER_KEY, LINKS[1].new).signature)],
    ],
)
def test_a_chain_of_keys_with_a_false_link_leads_nowhere(links: list[Endorsement]) -> None:
    assert follow(public_key_hex(CHAIN[0]), LINKS) == public_key_hex(CHAIN[2])
    assert follow(public_key_hex(OTHER_KEY), LINKS) == public_key_hex(OTHER_KEY)
    with pytest.raises(BadSignature):
        follow(public_key_hex(CHAIN[0]), links)


def test_what_signs_one_thing_signs_no_other() -> None:
    """No signature of one kind passes as one of another kind, whatever the names."""
    proof = prove_key(DEVICE_KEY, "cam-1", "x")
    with pytest.raises(BadSignature):
        check_time(public_key_hex(DEVICE_KEY), "cam-1", 1, proof)
    with pytest.raises(BadSignature):
        follow(public_key_hex(DEVICE_KEY), [Endorsement(public_key_hex(DEVICE_KEY), "x", proof)])
    digest = hashlib.sha256(b"").digest()
    with pytest.raises(BadSignature):
        Credentials("cam-1", 1, "A" * 22, bytes.fromhex(proof)).check(
            public_key_hex(DEVICE_KEY), "POST", "/", digest
        )


@pytest.mark.parametrize("header", ["", " ", "Paramcast", "Paramcast a b c d", "Paramcast cam-1 ٣ x y"])
def test_other_headers_are_refused(header: str) -> None:
    with pytest.raises(MessageError):
        Credentials.read(header)


def test_a_model_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    """A link to another file is copied as that file's contents, and a digest is no path."""
    (tmp_path / "secret").write_text("secret")
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_bytes(b"1")
    store = ModelStore(tmp_path / "store")
    digest = store.add(model)
    (store.path(digest) / "weights").unlink()
    (store.root / digest / "weights").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="not those that were published"):
        store.path(digest)
    with pytest.raises(InputError):
        store.path("../model")
