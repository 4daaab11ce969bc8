"""Packages: round trip in every quantization, size, and what may not be sealed."""

from __future__ import annotations

import dataclasses
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from packages import KEY, NOW, opened, package

from paramcast import protocol
from paramcast.protocol import PackageError, seal

ROUNDING = {"fp32": 0.0, "fp16": 0.0005, "int8": 0.004, "int4": 0.0715}


@pytest.mark.parametrize(("quantization", "error"), ROUNDING.items())
def test_round_trip(quantization: str, error: float) -> None:
    sent = package(quantization=quantization)
    got = opened(seal(sent, KEY))
    assert dataclasses.replace(got, tensors=sent.tensors) != got  # packages are not compared by value
    for field in ("device", "model", "sequence", "expires", "form", "quantization"):
        assert getattr(got, field) == getattr(sent, field)
    for name, values in sent.tensors.items():
        row_peak = np.abs(values).max(axis=-1, keepdims=True)
        assert (np.abs(got.tensors[name] - values) <= error * row_peak).all()
        assert got.tensors[name].dtype == np.float32
        assert got.tensors[name].flags.writeable


@given(
    hnp.arrays(
        "f4",
        hnp.array_shapes(min_dims=0, max_dims=4, max_side=4),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    st.sampled_from([("fp32", 0.0), ("int8", 1 / 253.9), ("int4", 1 / 13.99)]),
)
def test_any_finite_tensor_travels(values: np.ndarray, rounding: tuple[str, float]) -> None:
    quantization, error = rounding
    sent = package(tensors={"x": values}, quantization=quantization)
    got = opened(seal(sent, KEY), expected={"x": values.shape}).tensors["x"]
    rows = values.reshape(values.shape[0] if values.ndim > 1 else 1, -1).astype("f8")
    peak = np.abs(rows).max(axis=1, keepdims=True)
    difference = np.abs(got.reshape(rows.shape).astype("f8") - rows)
    assert (difference <= (0 if quantization == "fp32" else peak * error + 1e-43)).all()


# Of packages that were sealed before there was int4, by the key of zeros.
BEFORE = {
    "fp32": "82f15abb2675eaf051457e896ce851ba14218cd179f5431067fa726c3c542519",
    "fp16": "9e46ba11dd75401235f45f6cdfe90090305abf2747e3c8dbb37a7e5ef2eb526c",
    "int8": "086c6b73ad64abee6e61b221a4ad1e6f653882d238753059016794daaa43c0e4",
}


@pytest.mark.parametrize("quantization", BEFORE)
def test_what_older_devices_read_is_written_as_before(quantization: str) -> None:
    sealed = seal(package(quantization=quantization), protocol.SigningKey(bytes(32)))
    assert sha256(sealed).hexdigest() == BEFORE[quantization]
    assert sealed[4] == 1
    assert seal(package(quantization="int4"), KEY)[4] == 2


@pytest.mark.parametrize("quantization", ROUNDING)
def test_a_package_says_when_it_was_issued(quantization: str) -> None:
    sealed = seal(package(quantization=quantization, issued=NOW), KEY)
    assert (sealed[4], opened(sealed).issued) == (3, NOW)
    assert opened(seal(package(quantization=quantization), KEY)).issued is None


def test_what_says_when_it_was_issued_is_judged_by_the_clock_alone() -> None:
    """A time before that the cloud told wrongly would make all that comes later seem expired."""
    late = {"not_before": float(NOW + 10**6)}
    assert opened(seal(package(issued=NOW), KEY), **late).issued == NOW
    with pytest.raises(protocol.Expired):
        opened(seal(package(), KEY), **late)


def test_four_bits_are_half_a_byte() -> None:
    codes = {"codes": np.linspace(-1, 1, 63, dtype="f4")}
    sizes = {name: len(seal(package(tensors=codes, quantization=name), KEY)) for name in ("int8", "int4")}
    assert abs(sizes["int8"] - sizes["int4"] - 31) <= 8  # headers are padded to eights


def test_sixty_four_codes_take_less_than_600_bytes() -> None:
    codes = {"codes": np.linspace(-1, 1, 64, dtype="f4")}
    assert len(seal(package(tensors=codes, form="codes"), KEY)) < 500


def test_the_effect_takes_format_4_and_others_stay_as_they_were() -> None:
    kinds = [{}, {"quantization": "int4"}, {"issued": NOW}, {"issued": NOW, "effect": bytes(36)}]
    sealed = [seal(package(**kind), KEY) for kind in kinds]
    assert [data[4] for data in sealed] == [1, 2, 3, 4]
    assert [opened(data).effect for data in sealed] == [None, None, None, bytes(36)]


def test_sealing_is_deterministic() -> None:
    assert seal(package(), KEY) == seal(package(), KEY)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"device": "cam/1"}, protocol.BadFormat),
        ({"model": "x"}, protocol.BadFormat),
        ({"sequence": 0}, protocol.BadFormat),
        ({"sequence": 2**53}, protocol.BadFormat),
        ({"expires": -1}, protocol.BadFormat),
        ({"issued": -1}, protocol.BadFormat),
        ({"issued": NOW + 61}, protocol.BadFormat),
        ({"issued": NOW, "effect": b""}, protocol.BadFormat),
        ({"issued": NOW, "effect": bytes(133)}, protocol.BadFormat),
        ({"effect": b"effect"}, protocol.BadFormat),
        ({"form": "Full"}, protocol.BadFormat),
        ({"quantization": "int2"}, protocol.BadFormat),
        ({"tensors": {"../x": np.ones(1, "f4")}}, protocol.BadFormat),
        ({"tensors": {"x:s": np.ones(1, "f4")}}, protocol.BadFormat),
        ({"tensors": {"x" * 201: np.ones(1, "f4")}}, protocol.BadFormat),
        ({"tensors": {"x": np.ones(1)}}, protocol.WrongDtype),
        ({"tensors": {"x": np.ones((0, 2), "f4")}}, protocol.WrongShape),
        ({"tensors": {"x": np.ones((1,) * 9, "f4")}}, protocol.WrongShape),
        ({"tensors": {"x": np.full(1, np.nan, "f4")}}, protocol.NotFinite),
        ({"tensors": {"x": np.full(1, np.inf, "f4")}}, protocol.NotFinite),
        ({"tensors": {"x": np.full(1, 1e6, "f4")}, "quantization": "fp16"}, protocol.NotFinite),
    ],
)
def test_what_may_not_be_sealed(changes: dict[str, Any], error: type[PackageError]) -> None:
    with pytest.raises(error):
        seal(package(**changes), KEY)


def test_a_package_over_the_limit_is_not_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paramcast.protocol.limits.MAX_PACKAGE_BYTES", 400)
    with pytest.raises(protocol.TooLarge):
        seal(package(), KEY)
