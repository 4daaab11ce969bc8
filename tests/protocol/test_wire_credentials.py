"""Signed requests: what a header says is what was signed, and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcast.protocol import BadSignature, Credentials, authorize, make_key, new_nonce, public_key_hex

KEY = make_key()
DEVICES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}", fullmatch=True)


@given(DEVICES, st.sampled_from(["POST", "GET"]), st.binary(max_size=50), st.integers(0, 10**16 - 1))
def test_round_trip(device: str, method: str, body: bytes, time_us: int) -> None:
    nonce = new_nonce()
    header = authorize(
        KEY, device=device, method=method, path="/v1/adapt", body=body, time_us=time_us, nonce=nonce
    )
    read = Credentials.read(header)
    assert (read.device, read.time_us, read.nonce) == (device, time_us, nonce)
    digest = hashlib.sha256(body).digest()
    read.check(public_key_hex(KEY), method, "/v1/adapt", digest)
    for other in [
        (public_key_hex(make_key()), method, "/v1/adapt", digest),
        (public_key_hex(KEY), "PUT", "/v1/adapt", digest),
        (public_key_hex(KEY), method, "/v1/key", digest),
        (public_key_hex(KEY), method, "/v1/adapt", hashlib.sha256(body + b"x").digest()),
    ]:
        with pytest.raises(BadSignature):
            read.check(*other)


def test_it_is_one_short_line() -> None:
    header = authorize(
        KEY, device="cam-1", method="POST", path="/v1/adapt", body=b"", time_us=10**15, nonce=new_nonce()
    )
    assert len(f"authorization: {header}\r\n") < 170


def test_nonces_differ() -> None:
    assert len({new_nonce() for _ in range(100)}) == 100
