"""Inputs that a device with any module is handed: taken whole, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paramcast.artifact.manifest import TensorSpec
from paramcast.device import (
    DeviceInputError,
)
from paramcast.device.arguments import check_inputs

IMAGE = (TensorSpec("image", "float32", (None, 3, 2)),)
PAIR = (TensorSpec("ids", "int64", (None, None)), TensorSpec("mask", "bool", (None, 4)))


@pytest.mark.parametrize(
    ("x", "specs", "tree", "message"),
    [
        ([[1.0]], IMAGE, "image", "input image must be an array, not a list"),
        (np.zeros((2, 3, 2), "i8"), IMAGE, "image", "image must be float32, not int64"),
        (np.zeros((2, 3, 2), "c8"), IMAGE, "image", "image must be float32, not complex64"),
        (np.zeros((2, 3), "f4"), IMAGE, "image", r"shape \(any, 3, 2\), not \(2, 3\)"),
        (np.zeros((2, 2, 3), "f4"), IMAGE, "image", r"shape \(any, 3, 2\), not \(2, 2, 3\)"),
        (np.zeros((0, 3, 2), "f4"), IMAGE, "image", "image is empty"),
        ({"picture": np.zeros((2, 3, 2), "f4")}, IMAGE, ["image"], "'image' is missing"),
        ((np.zeros((2, 3, 2)),) * 2, IMAGE, ["image"], "1 arrays are needed, not 2"),
        (np.zeros((2, 4), "i8"), PAIR, ["ids", "mask"], r"needed \(ids, mask\), not a ndarray"),
        ({"ids": np.zeros((2, 4), "i8")}, PAIR, ["ids", "mask"], "'mask' is missing"),
        ((np.zeros((2, 4), "f4"), np.ones((2, 4), bool)), PAIR, ["ids", "mask"], "ids must be int64"),
        ((np.zeros((2, 4), "i8"), np.ones((3, 4), bool)), PAIR, ["ids", "mask"], "ids has 2, mask has 3"),
        (
            {"ids": np.zeros((2, 4), "i8"), "mask": np.ones((2, 4), bool), "x": 1},
            PAIR,
            ["ids", "mask"],
            "'x' is not known",
        ),
        ({"batch": {"ids": 1}}, PAIR, [{"ids": "ids", "mask": "mask"}], "missing"),
    ],
)
def test_wrong_inputs_are_named(x: Any, specs: Any, tree: Any, message: str) -> None:
    with pytest.raises(DeviceInputError, match=message):
        check_inputs(x, specs, tree)


def test_inputs_may_be_given_by_place_or_by_name() -> None:
    ids, mask = np.zeros((2, 5), "i4"), np.ones((2, 4), bool)
    for x, tree in [
        ((ids, mask), ["ids", "mask"]),
        ({"mask": mask, "ids": ids}, ["ids", "mask"]),
        ((ids, mask), {"ids": "ids", "mask": "mask"}),
        ({"ids": ids, "mask": mask}, {"ids": "ids", "mask": "mask"}),
        (({"a": ids, "b": (mask,)},), [{"a": "ids", "b": ["mask"]}]),
        ({"a": ids, "b": [mask]}, [{"a": "ids", "b": ["mask"]}]),
    ]:
        found = check_inputs(x, PAIR, tree)
        assert (found["ids"].dtype, found["ids"].shape, found["mask"].shape) == (np.int64, (2, 5), (2, 4))
    assert (
        check_inputs(torch.zeros(2, 3, 2, dtype=torch.float64), IMAGE, "image")["image"].dtype == np.float32
    )


ANY = st.recursive(
    st.one_of(
        st.none(),
        st.integers(),
        st.text(max_size=3),
        hnp.arrays(
            st.sampled_from(["f4", "f8", "i8", "bool", "u1"]), hnp.array_shapes(min_dims=0, max_side=4)
        ),
    ),
    lambda part: st.one_of(
        st.lists(part, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["ids", "mask", "x"]), part, max_size=3),
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(x=ANY, tree=st.sampled_from([["ids", "mask"], {"ids": "ids", "mask": "mask"}, [{"a": "ids"}, "mask"]]))
def test_whatever_is_handed_over_is_taken_whole_or_refused(x: Any, tree: Any) -> None:
    try:
        found = check_inputs(x, PAIR, tree)
    except DeviceInputError:
        return
    assert found["ids"].dtype == np.int64
    assert found["mask"].dtype == bool
    assert len(found["ids"]) == len(found["mask"]) > 0
    assert found["mask"].shape[1:] == (4,)
