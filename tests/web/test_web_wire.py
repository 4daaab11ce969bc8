"""The page's wire format is Python's: the same bytes out, the same packages refused for the same rule."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pages import packed
from playwright.sync_api import Page

from paramcast.protocol import AdaptRequest, MessageError, PackageError, open_package, seal
from paramcast.protocol.credentials import Credentials, check_proof, tell_time

ENCODE = """async ({ anchors, queries, queryDim, ...rest }) => {
    const rows = (numbers, columns) =>
        Array.from({ length: columns ? numbers.length / columns : 0 }, (_, row) =>
            Float32Array.from(numbers.slice(row * columns, (row + 1) * columns)));
    const { encodeRequest } = await paramcast.protocol();
    const request = { ...rest, queryDim, anchors: rows(...anchors), queries: rows(...queries) };
    try { return encodeRequest(request).toBase64(); } catch (error) { return error.name; }
}"""
OPEN = """async ([given, key, { expected, ...rules }]) => {
    const bytes = typeof given === "number" ? new Uint8Array(given) : Uint8Array.fromBase64(given.base64);
    const { openPackage } = await paramcast.protocol();
    try {
        const opened = await openPackage(bytes, key, { ...rules, expected: new Map(expected) });
        return [...opened.tensors].map(([name, values]) => [name, [...values]]);
    } catch (error) { return error.name; }
}"""


def encoded(bare_page: Page, request: AdaptRequest) -> bytes | str:
    told = bare_page.evaluate(
        ENCODE,
        {
            "device": request.device,
            "model": request.model,
            "sequence": request.sequence,
            "anchors": [request.anchors.ravel().tolist(), request.anchors.shape[1]],
            "queries": [request.queries.ravel().tolist(), request.queries.shape[1]],
            "clipOfQuery": request.clip_of_query.tolist(),
            "queryDim": request.queries.shape[1],
        },
    )
    return told if told == "MessageError" else base64.b64decode(told)


def opened(
    bare_page: Page, data: bytes | int, key: str, rules: dict[str, Any]
) -> dict[str, list[float]] | str:
    """What the page makes of a package: its tensors, or the name of the rule that it breaks."""
    shapes = [[name, list(shape)] for name, shape in rules["expected"].items()]
    given = data if isinstance(data, int) else packed(data)
    told = bare_page.evaluate(OPEN, [given, key, rules | {"expected": shapes}])
    return told if isinstance(told, str) else dict(told)


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_request_has_python_s_bytes(bare_page: Page, data: st.DataObject) -> None:
    clips, queries = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 5))
    dims = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    request = AdaptRequest(
        data.draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,20}", fullmatch=True)),
        data.draw(st.from_regex(r"[0-9a-f]{64}", fullmatch=True)),
        data.draw(st.integers(0, 2**53 - 1)),
        data.draw(arrays.arrays("f4", (clips, dims[0]), elements=FINITE)),
        data.draw(arrays.arrays("f4", (queries, dims[1]), elements=FINITE)),
        np.array(
            data.draw(st.lists(st.integers(0, clips - 1), min_size=queries, max_size=queries)), np.int64
        ),
    )
    assert encoded(bare_page, request) == request.encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", "-"),
        ("model", "A" * 64),
        ("sequence", -1),
        ("anchors", np.zeros((0, 4), "f4")),
        ("anchors", np.full((2, 4), np.inf, "f4")),
        ("anchors", np.zeros((257, 4), "f4")),
        ("clip_of_query", np.array([2])),
        ("clip_of_query", np.array([0, 0])),
    ],
)
def test_what_python_does_not_send_the_page_does_not_either(bare_page: Page, field: str, value: Any) -> None:
    fields: dict[str, Any] = {
        "device": "cam-1",
        "model": "a" * 64,
        "sequence": 0,
        "anchors": np.ones((2, 4), "f4"),
        "queries": np.ones((1, 3), "f4"),
        "clip_of_query": np.array([1]),
    }
    assert encoded(bare_page, AdaptRequest(**fields)) == AdaptRequest(**fields).encode()
    request = AdaptRequest(**fields | {field: value})
    with pytest.raises(MessageError):
        request.encode()
    assert encoded(bare_page, request) == "MessageError"


def test_every_attack_is_refused_for_python_s_rule(bare_page: Page) -> None:
    from packages import KEY, MODEL, NOW, SHAPES
    from test_attacks_packages import ATTACKS

    from paramcast.protocol import public_key_hex

    for name, (make, changes, error) in ATTACKS.items():
        rules = {"device": "cam-1", "model": MODEL, "after": 4, "now": NOW, "expected": SHAPES} | changes
        data = make()
        given = len(data) if not any(data) and data else data  # 64 MiB of zeros are made over there
        assert opened(bare_page, given, public_key_hex(KEY), rules) == error.__name__, name


@pytest.mark.parametrize("key", ["", "00", "g" * 64, "A" * 64, "00" * 32])
def test_a_malformed_public_key_opens_nothing(bare_page: Page, key: str) -> None:
    from packages import KEY, MODEL, SHAPES, package

    rules = {"device": "cam-1", "model": MODEL, "after": 0, "now": 0, "expected": SHAPES}
    assert opened(bare_page, seal(package(), KEY), key, rules) == "BadSignature"


@pytest.mark.parametrize("quantization", ["fp32", "fp16", "int8", "int4"])
@pytest.mark.parametrize("dated", [False, True])
def test_a_package_holds_python_s_numbers(bare_page: Page, quantization: str, dated: bool) -> None:
    from packages import KEY, MODEL, NOW, package

    from paramcast.protocol import public_key_hex

    rng = np.random.default_rng(3)
    shapes = {"a.weight": (3, 5), "a.bias": (3,), "scalar": (), "b": (2, 3, 4)}
    tensors = {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    dates: dict[str, Any] = {"issued": NOW, "effect": bytes(range(36))} if dated else {}
    data = seal(package(tensors=tensors, quantization=quantization, **dates), KEY)
    rules: dict[str, Any] = {"device": "cam-1", "model": MODEL, "after": 4, "now": 0.0, "expected": shapes}
    ours = open_package(data, public_key_hex(KEY), **rules)
    theirs = opened(bare_page, data, public_key_hex(KEY), rules)
    assert isinstance(theirs, dict)
    for name, values in ours.tensors.items():
        np.testing.assert_array_equal(np.array(theirs[name], "f4"), values.ravel(), err_msg=name)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_rightly_signed_noise_is_judged_as_python_judges_it(
    bare_page: Page, place: int, patch: bytes
) -> None:
    from packages import HEAD, KEY, MODEL, NOW, SHAPES
    from test_attacks_packages import signed, stored

    from paramcast.protocol import public_key_hex
    from paramcast.protocol.tensors import pack

    content = bytearray(pack(HEAD, stored()))
    place %= len(content)
    content[place : place + len(patch)] = patch
    data = signed(bytes(content))
    rules: dict[str, Any] = {"device": "cam-1", "model": MODEL, "after": 4, "now": NOW, "expected": SHAPES}
    theirs = opened(bare_page, data, public_key_hex(KEY), rules)
    try:
        ours: Any = open_package(data, public_key_hex(KEY), **rules).tensors
    except PackageError as error:
        ours = type(error).__name__
    if isinstance(theirs, dict) and isinstance(ours, dict):
        ours = {name: values.ravel().tolist() for name, values in ours.items()}
    assert theirs == ours


def test_a_signed_request_and_a_proof_are_those_that_the_cloud_checks(bare_page: Page) -> None:
    script = """async () => {
        const { authorize, makeKey, newNonce, proveKey, publicKeyHex } = await paramcast.protocol();
        const [key, body] = [await makeKey(), new TextEncoder().encode("body")];
        const asked = { device: "tab-1", method: "POST", path: "/v1/adapt", body, timeUs: 1764100000000000 };
        return {
            header: await authorize(key, { ...asked, nonce: newNonce() }),
            proof: await proveKey(key, "tab-1", "token"),
            key: await publicKeyHex(key),
            exportable: key.privateKey.extractable,
        };
    }"""
    told = bare_page.evaluate(script)
    credentials = Credentials.read(told["header"])
    assert (credentials.device, credentials.time_us) == ("tab-1", 1764100000000000)
    credentials.check(told["key"], "POST", "/v1/adapt", hashlib.sha256(b"body").digest())
    check_proof(told["key"], "tab-1", "token", told["proof"])
    assert told["exportable"] is False


def test_the_cloud_s_time_and_its_next_key_are_believed_if_signed(bare_page: Page) -> None:
    from packages import KEY, OTHER_KEY

    from paramcast.protocol import endorse, public_key_hex

    old, new = public_key_hex(KEY), public_key_hex(OTHER_KEY)
    link = vars(endorse(KEY, new))
    forged = {**link, "signature": vars(endorse(OTHER_KEY, new))["signature"]}
    circle = vars(endorse(OTHER_KEY, old))
    script = """async ([method, ...given]) => {
        const wire = await paramcast.protocol();
        try { return (await wire[method](...given)) ?? "believed"; } catch (error) { return error.name; }
    }"""
    assert bare_page.evaluate(script, ["follow", old, [link]]) == new
    assert bare_page.evaluate(script, ["follow", old, []]) == old
    assert bare_page.evaluate(script, ["follow", old, [forged]]) == "BadSignature"
    assert bare_page.evaluate(script, ["follow", old, [link, circle]]) == "BadSignature"
    time_us = 1764100000000000
    told = tell_time(KEY, "nonce", time_us)
    assert bare_page.evaluate(script, ["checkTime", old, "nonce", time_us, told]) == "believed"
    assert bare_page.evaluate(script, ["checkTime", old, "other", time_us, told]) == "BadSignature"
