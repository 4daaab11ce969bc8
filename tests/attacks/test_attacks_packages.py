"""Packages: one attack for each rule that a device checks before it runs anything."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import HEAD, KEY, MODEL, NOW, OTHER_KEY, OTHER_MODEL, SHAPES, opened, package

from paramcast import protocol
from paramcast.protocol import PackageError, open_package, seal
from paramcast.protocol.package import MAGIC
from paramcast.protocol.signing import sign
from paramcast.protocol.tensors import pack


def stored(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    tensors = {
        "layer.weight": np.ones((4, 6), "i1"),
        "layer.weight:s": np.ones(4, "f4"),
        "layer.bias": np.ones(4, "i1"),
        "layer.bias:s": np.ones(1, "f4"),
    }
    return {name: values for name, values in (tensors | changes).items() if values is not None}


def forged(
    tensors: dict[str, np.ndarray], head: dict[str, str] = HEAD, key: protocol.SigningKey = KEY
) -> bytes:
    """A rightly signed package with contents that `seal` would refuse to write."""
    return signed(pack(head, tensors), key)


def signed(content: bytes, key: protocol.SigningKey = KEY, kind: bytes = b"\x01") -> bytes:
    return MAGIC + kind + sign(key, kind + content) + content


def good() -> bytes:
    return seal(package(), KEY)


def int4(codes: np.ndarray) -> bytes:
    """A rightly signed package of format 2 with one tensor."""
    tensors = {"x": codes, "x:s": np.ones(1, "f4")}
    return signed(pack(HEAD | {"q": "int4"}, tensors), kind=b"\x02")


def telling(**changes: str) -> bytes:
    """A rightly signed package of format 4, which may tell its effect."""
    return signed(pack(HEAD | {"i": str(NOW)} | changes, stored()), kind=b"\x04")


def dated(**changes: str) -> bytes:
    """A rightly signed package of format 3, which says when it was issued."""
    return signed(pack(HEAD | {"i": str(NOW)} | changes, stored()), kind=b"\x03")


ATTACKS: dict[str, tuple[Callable[[], bytes], dict[str, Any], type[PackageError]]] = {
    "oversize": (lambda: bytes(64 * 1024 * 1024 + 1), {}, protocol.TooLarge),
    "empty": (lambda: b"", {}, protocol.BadFormat),
    "cut in the signature": (lambda: good()[:40], {}, protocol.BadFormat),
    "cut in the data": (lambda: good()[:-1], {}, protocol.BadSignature),
    "longer": (lambda: good() + b"\0", {}, protocol.BadSignature),
    "other magic": (lambda: b"PK" + good()[2:], {}, protocol.BadFormat),
    "other format": (lambda: good()[:4] + b"\x05" + good()[5:], {}, protocol.BadFormat),
    "format changed on the way": (lambda: good()[:4] + b"\x02" + good()[5:], {}, protocol.BadSignature),
    "forged with another key": (lambda: seal(package(), OTHER_KEY), {}, protocol.BadSignature),
    "signed without the format byte": (
        lambda: MAGIC + b"\x01" + sign(KEY, good()[69:]) + good()[69:],
        {},
        protocol.BadSignature,
    ),
    "foreign device": (good, {"device": "cam-2"}, protocol.WrongDevice),
    "foreign model": (good, {"model": OTHER_MODEL}, protocol.WrongModel),
    "replayed": (good, {"after": 5}, protocol.StaleSequence),
    "rolled back": (good, {"after": 9}, protocol.StaleSequence),
    "expired": (good, {"now": NOW + 60.0}, protocol.Expired),
    "missing tensor": (lambda: forged(stored(**{"layer.bias": None})), {}, protocol.MissingTensor),
    "missing scale": (lambda: forged(stored(**{"layer.bias:s": None})), {}, protocol.MissingTensor),
    "extra tensor": (lambda: forged(stored(more=np.ones(1, "i1"))), {}, protocol.UnexpectedTensor),
    "path in a name": (
        lambda: forged(stored(**{"../../x": np.ones(1, "i1")})),
        {},
        protocol.UnexpectedTensor,
    ),
    "surrogate in a name": (
        lambda: forged(stored(**{"\ud800": np.ones(1, "i1")})),
        {},
        protocol.UnexpectedTensor,
    ),
    "wrong shape": (lambda: forged(stored(**{"layer.bias": np.ones(5, "i1")})), {}, protocol.WrongShape),
    "transposed": (
        lambda: forged(stored(**{"layer.weight": np.ones((6, 4), "i1")})),
        {},
        protocol.WrongShape,
    ),
    "scale for each value": (
        lambda: forged(stored(**{"layer.bias:s": np.ones(4, "f4")})),
        {},
        protocol.WrongShape,
    ),
    "wrong dtype": (lambda: forged(stored(**{"layer.bias": np.ones(4, "f4")})), {}, protocol.WrongDtype),
    "int8 said, fp32 sent": (
        lambda: forged(stored(), HEAD | {"q": "fp32"}),
        {"expected": {"layer.weight": (4, 6)}},
        protocol.UnexpectedTensor,
    ),
    "scale NaN": (
        lambda: forged(stored(**{"layer.bias:s": np.full(1, np.nan, "f4")})),
        {},
        protocol.NotFinite,
    ),
    "scale Inf": (
        lambda: forged(stored(**{"layer.bias:s": np.full(1, np.inf, "f4")})),
        {},
        protocol.NotFinite,
    ),
    "scale overflows": (
        lambda: forged(
            stored(**{"layer.bias:s": np.full(1, 3e38, "f4"), "layer.bias": np.full(4, 127, "i1")})
        ),
        {},
        protocol.NotFinite,
    ),
    "NaN in fp32": (
        lambda: forged({"x": np.full(1, np.nan, "f4")}, HEAD | {"q": "fp32"}),
        {"expected": {"x": (1,)}},
        protocol.NotFinite,
    ),
    "Inf in fp16": (
        lambda: forged({"x": np.full(1, np.inf, "f2")}, HEAD | {"q": "fp16"}),
        {"expected": {"x": (1,)}},
        protocol.NotFinite,
    ),
    "unknown quantization": (lambda: forged(stored(), HEAD | {"q": "int2"}), {}, protocol.BadFormat),
    "int4 in format 1": (lambda: forged(stored(), HEAD | {"q": "int4"}), {}, protocol.BadFormat),
    "int8 in format 2": (lambda: signed(pack(HEAD, stored()), kind=b"\x02"), {}, protocol.BadFormat),
    "int4 of another length": (
        lambda: int4(np.ones((1, 2), "u1")),
        {"expected": {"x": (5,)}},
        protocol.WrongShape,
    ),
    "int8 as int4": (lambda: int4(np.ones((1, 3), "i1")), {"expected": {"x": (5,)}}, protocol.WrongDtype),
    "effect in format 3": (lambda: dated(x="AAAAAA=="), {}, protocol.BadFormat),
    "effect that is no base64": (lambda: telling(x="AAAAAA"), {}, protocol.BadFormat),
    "effect in another spelling": (lambda: telling(x="AB=="), {}, protocol.BadFormat),
    "effect with a line break": (lambda: telling(x="AAAA\n"), {}, protocol.BadFormat),
    "empty effect": (lambda: telling(x=""), {}, protocol.BadFormat),
    "effect over the limit": (lambda: telling(x="AAAA" * 45), {}, protocol.BadFormat),
    "unknown key in format 4": (lambda: telling(y="AAAA"), {}, protocol.BadFormat),
    "format 4 without a time": (
        lambda: signed(pack(HEAD | {"x": "AAAA"}, stored()), kind=b"\x04"),
        {},
        protocol.BadFormat,
    ),
    "issue time in format 1": (lambda: forged(stored(), HEAD | {"i": "1"}), {}, protocol.BadFormat),
    "format 3 without issue time": (
        lambda: signed(pack(HEAD, stored()), kind=b"\x03"),
        {},
        protocol.BadFormat,
    ),
    "issue time no number": (lambda: dated(i="-1"), {}, protocol.BadFormat),
    "issued after its end": (lambda: dated(i=str(NOW + 61)), {}, protocol.BadFormat),
    "dated and expired": (dated, {"now": NOW + 60.0}, protocol.Expired),
    "dated and replayed": (dated, {"after": 5}, protocol.StaleSequence),
    "sequence no number": (lambda: forged(stored(), HEAD | {"s": "5.0"}), {}, protocol.BadFormat),
    "sequence of 5000 digits": (lambda: forged(stored(), HEAD | {"s": "9" * 5000}), {}, protocol.BadFormat),
    "expiry no number": (lambda: forged(stored(), HEAD | {"e": "never"}), {}, protocol.BadFormat),
    "form malformed": (lambda: forged(stored(), HEAD | {"f": "../x"}), {}, protocol.BadFormat),
    "metadata with more": (lambda: forged(stored(), HEAD | {"x": ""}), {}, protocol.BadFormat),
    "header length lies": (lambda: signed((2**63).to_bytes(8, "little") + b"{}"), {}, protocol.BadFormat),
    "shape lies": (
        lambda: signed(pack(HEAD, stored()).replace(b'"shape":[4,6]', b'"shape":[9,9]')),
        {},
        protocol.BadFormat,
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(attack: str) -> None:
    make, rules, error = ATTACKS[attack]
    assert opened(good()).sequence == 5
    assert opened(forged(stored())).sequence == 5
    with pytest.raises(error) as caught:
        opened(make(), **rules)
    assert type(caught.value) is error
    assert len(str(caught.value).encode()) < 400


@pytest.mark.parametrize("key", ["", "00", "g" * 64, "A" * 64, "00" * 32])
def test_a_malformed_public_key_opens_nothing(key: str) -> None:
    with pytest.raises(protocol.BadSignature):
        open_package(good(), key, device="cam-1", model=MODEL, after=0, now=0, expected=SHAPES)


def test_every_flipped_bit_is_refused() -> None:
    data = good()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((protocol.BadSignature, protocol.BadFormat)):
            opened(bytes(changed))


def test_hostile_packages_allocate_little() -> None:
    many = {f"t{place}": np.ones(1, "i1") for place in range(200)}
    hostile = [forged(many), *(make() for name, (make, _, _) in ATTACKS.items() if name != "oversize")]
    tracemalloc.start()
    try:
        for data in hostile:
            with pytest.raises(PackageError):
                opened(data, after=5)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@settings(max_examples=200)
@given(st.binary(max_size=400), st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_any_bytes_are_refused_even_if_rightly_signed(noise: bytes, place: int, patch: bytes) -> None:
    content = bytearray(pack(HEAD, stored()))
    place %= len(content)
    content[place : place + len(patch)] = patch
    for data in (noise, MAGIC + noise, signed(noise)):
        with pytest.raises(PackageError):
            opened(data)
    with contextlib.suppress(PackageError):
        opened(signed(bytes(content)))
