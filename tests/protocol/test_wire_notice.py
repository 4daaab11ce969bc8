"""Notices and an offline root's signatures: what is read, what is refused, and which notice is the newest."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packages import KEY, MODEL, NOW, OTHER_KEY, OTHER_MODEL, opened, package

from paramcast import protocol
from paramcast.protocol import Delegation, Notice, delegate, open_notice, public_key_hex, seal, seal_notice
from paramcast.protocol.limits import MAX_JUMP, MAX_NOTICE_BYTES, MAX_WITHDRAWN
from paramcast.protocol.notice import MAGIC, SKEW_S
from paramcast.protocol.root import check_manifest, sign_manifest
from paramcast.protocol.signing import sign

NOTICE = Notice(MODEL, 7, NOW, NOW + 60, (2, 5), NOW - 10, False, 3)


def read(data: bytes, **changes: Any) -> Notice:
    return open_notice(data, public_key_hex(KEY), **({"model": MODEL, "generation": 3} | changes))


def told(**changes: Any) -> bytes:
    """A rightly signed notice with contents that `seal_notice` would refuse to write."""
    body = {"b": False, "g": 3, "i": 0, "m": MODEL, "n": 7, "t": NOW, "u": NOW + 60, "w": [2]} | changes
    return raw(json.dumps(body, separators=(",", ":")).encode())


def raw(body: bytes) -> bytes:
    return MAGIC + b"\x01" + sign(KEY, b"\x01" + body) + body


CASES: list[tuple[bytes, dict[str, Any], type[protocol.PackageError]]] = [
    (bytes(MAX_NOTICE_BYTES + 1), {}, protocol.TooLarge),
    (b"", {}, protocol.BadFormat),
    (seal_notice(NOTICE, KEY)[:60], {}, protocol.BadFormat),
    (b"PCPK" + seal_notice(NOTICE, KEY)[4:], {}, protocol.BadFormat),
    (seal_notice(NOTICE, KEY)[:4] + b"\x02" + seal_notice(NOTICE, KEY)[5:], {}, protocol.BadFormat),
    (seal_notice(NOTICE, KEY)[:-1], {}, protocol.BadSignature),
    (seal_notice(NOTICE, OTHER_KEY), {}, protocol.BadSignature),
    (seal_notice(NOTICE, KEY), {"generation": 4}, protocol.WrongGeneration),
    (seal_notice(NOTICE, KEY), {"model": OTHER_MODEL}, protocol.WrongModel),
    (raw(b"[]"), {}, protocol.BadFormat),
    (raw(b"\xff"), {}, protocol.BadFormat),
    (raw(b"[" * 4000), {}, protocol.BadFormat),
    (told(more=1), {}, protocol.BadFormat),
    (told(n=7.0), {}, protocol.BadFormat),
    (told(n=-1), {}, protocol.BadFormat),
    (told(t=2**53), {}, protocol.BadFormat),
    (told(u=NOW - 1), {}, protocol.BadFormat),
    (told(b=0), {}, protocol.BadFormat),
    (told(m="x"), {}, protocol.BadFormat),
    (told(w=[3, 2]), {}, protocol.BadFormat),
    (told(w=[0]), {}, protocol.BadFormat),
    (told(w=["1"]), {}, protocol.BadFormat),
    (told(w="12"), {}, protocol.BadFormat),
    (told(w=list(range(1, MAX_WITHDRAWN + 2))), {}, protocol.BadFormat),
    (raw(told()[69:].replace(b":", b": ")), {}, protocol.BadFormat),
]
"""What is refused, how it is read, and for which rule; the page judges the same."""


def test_a_notice_comes_back_as_it_was_and_is_short() -> None:
    assert read(seal_notice(NOTICE, KEY)) == NOTICE
    assert read(told()) == dataclasses.replace(NOTICE, withdrawn=(2,), since=0)
    assert len(seal_notice(NOTICE, KEY)) < 300
    most = dataclasses.replace(NOTICE, withdrawn=tuple(range(10**6, 10**6 + MAX_WITHDRAWN)))
    assert len(seal_notice(most, KEY)) < MAX_NOTICE_BYTES
    assert read(seal_notice(NOTICE, KEY), generation=None) == NOTICE


@pytest.mark.parametrize(("data", "changes", "error"), CASES, ids=range(len(CASES)))
def test_what_is_no_notice_is_refused(
    data: bytes, changes: dict[str, Any], error: type[protocol.PackageError]
) -> None:
    with pytest.raises(error):
        read(data, **changes)


def test_what_a_notice_calls_back() -> None:
    assert NOTICE.refusal(2, NOW) == "version 2 of the model is withdrawn"
    assert NOTICE.refusal(3, NOW) is NOTICE.refusal(None, NOW) is NOTICE.refusal(3, NOW - 10) is None
    for issued in (None, NOW - 11, NOW + SKEW_S + 1):  # the last by a clock that was ahead
        assert "called back" in str(NOTICE.refusal(3, issued))
    assert dataclasses.replace(NOTICE, since=0).refusal(None, None) is None


def test_which_notice_is_the_newest() -> None:
    later = dataclasses.replace(NOTICE, time=NOW + 5)
    changed = dataclasses.replace(NOTICE, number=8, time=NOW - 1000)
    ahead = dataclasses.replace(NOTICE, time=NOW + 2 * SKEW_S, until=NOW + 3 * SKEW_S)
    assert later.replaces(NOTICE, NOW)
    assert not NOTICE.replaces(later, NOW)
    assert changed.replaces(later, NOW)
    assert not later.replaces(changed, NOW)
    assert NOTICE.replaces(ahead, NOW)  # whose time no right clock can have given
    assert not NOTICE.replaces(dataclasses.replace(ahead, number=8), NOW)


def test_a_delegation_is_the_root_s_word() -> None:
    root, key = public_key_hex(KEY), public_key_hex(OTHER_KEY)
    word = delegate(KEY, generation=2, key=key, not_after=NOW)
    word.check(root)
    assert Delegation.read(json.dumps(word.to_json()).encode()) == word
    with pytest.raises(protocol.BadSignature, match="of root"):
        word.check(key)
    forgeries: list[dict[str, Any]] = [
        {"generation": 3},
        {"key": root},
        {"not_after": NOW + 1},
        {"signature": "0" * 128},
        {"signature": "x"},
    ]
    for changes in forgeries:
        with pytest.raises(protocol.BadSignature):
            dataclasses.replace(word, **changes).check(root)
    others: list[Any] = [
        {"generation": 0},
        {"generation": True},
        {"key": "x"},
        {"not_after": -1},
        {"signature": 5},
        {"more": 1},
    ]
    for changes in others:
        with pytest.raises(protocol.MessageError):
            Delegation.from_json(word.to_json() | changes)
    with pytest.raises(protocol.MessageError, match="JSON"):
        Delegation.read(b"{")


def test_a_manifest_is_signed_byte_by_byte() -> None:
    signature = sign_manifest(KEY, b"{}")
    check_manifest(public_key_hex(KEY), b"{}", signature)
    for root, manifest in ((public_key_hex(OTHER_KEY), b"{}"), (public_key_hex(KEY), b"{ }")):
        with pytest.raises(protocol.BadSignature):
            check_manifest(root, manifest, signature)


def test_format_4_says_generation_and_version() -> None:
    data = seal(package(issued=NOW, generation=2, version=7), KEY)
    assert data[4] == 4
    read = opened(data, generation=2)
    assert (read.generation, read.version, read.issued) == (2, 7, NOW)
    assert opened(data).version == 7  # a device without a root takes any generation
    with pytest.raises(protocol.WrongGeneration, match=r"generation 2.*generation 3"):
        opened(data, generation=3)
    assert [seal(package(issued=issued), KEY)[4] for issued in (None, NOW)] == [1, 3]
    for changes in ({"version": 0}, {"generation": -1}, {"version": 7, "issued": None}):
        with pytest.raises(protocol.BadFormat):
            seal(package(**({"issued": NOW} | changes)), KEY)


def test_numbers_do_not_jump() -> None:
    with pytest.raises(protocol.SequenceJump, match="access reset"):
        opened(seal(package(sequence=5 + MAX_JUMP), KEY))
    assert opened(seal(package(sequence=4 + MAX_JUMP), KEY)).sequence == 4 + MAX_JUMP
    assert opened(seal(package(sequence=2**53 - 1), KEY), after=0).sequence == 2**53 - 1


SAID = st.builds(
    Notice,
    st.just(MODEL),
    number=st.integers(1, 3),
    time=st.integers(NOW, NOW + 3 * SKEW_S),
    until=st.just(NOW + 10 * SKEW_S),
    withdrawn=st.sampled_from([(), (1,), (1, 2)]),
    since=st.sampled_from([0, NOW, NOW + SKEW_S]),
)


@given(SAID, SAID, st.sampled_from([None, 1, 2]), st.none() | st.integers(NOW - 5, NOW + 5 * SKEW_S))
def test_a_notice_that_says_no_more_calls_nothing_else_back(
    newer: Notice, older: Notice, version: int | None, issued: int | None
) -> None:
    if not newer.says_more(older) and older.refusal(version, issued) is None:
        assert newer.refusal(version, issued) is None
