from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paramcast.methods.m3bat import OptionError, cohens_d, shift_table
from paramcast.methods.m3bat.branches import by_modality, by_shift
from paramcast.methods.m3bat.shift import LIMIT

TABLES = arrays(np.float64, (7, 3), elements=st.floats(-1e6, 1e6, allow_subnormal=False))


def test_cohens_d_is_the_difference_of_means_over_the_pooled_deviation() -> None:
    source = np.array([[1.0], [3.0]])
    target = np.array([[4.0], [6.0], [8.0]])
    pooled = np.sqrt((1 * 2.0 + 2 * 4.0) / 3)
    np.testing.assert_allclose(cohens_d(source, target), (6 - 2) / pooled)


@given(source=TABLES, target=TABLES)
def test_cohens_d_is_bounded_and_changes_its_sign_with_the_sides(
    source: np.ndarray, target: np.ndarray
) -> None:
    d = cohens_d(source, target)
    assert np.isfinite(d).all()
    assert (np.abs(d) <= LIMIT).all()
    np.testing.assert_allclose(cohens_d(target, source), -d, atol=1e-9)
    np.testing.assert_array_equal(cohens_d(source, source), 0)


def test_constant_features_have_no_shift_or_the_largest() -> None:
    source, target = np.full((5, 2), 0.1), np.full((4, 2), 0.1)
    target[:, 1] = -3
    assert cohens_d(source, target).tolist() == [0, -LIMIT]


def test_the_table_lists_the_most_shifted_feature_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(200, 3)), rng.normal([0, 2, -1], size=(200, 3))
    branches = {"left": np.array([0, 1]), "right": np.array([2])}
    table = shift_table(source, target, branches, ["a", "b", "c"])
    assert [line.split()[0] for line in table.text().splitlines()] == ["feature", "b", "c", "a"]
    assert len(table.text(most=1).splitlines()) == 2
    means = table.by_branch()
    assert list(means) == ["left", "right"]
    assert means["left"] == pytest.approx(np.abs(table.d[:2]).mean())
    table.plot(tmp_path / "shift.png")
    assert (tmp_path / "shift.png").read_bytes().startswith(b"\x89PNG")


def test_windows_are_compared_by_mean_and_deviation_of_each_channel() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(50, 40, 2)), rng.normal(size=(50, 40, 2))
    target[:, :, 1] *= 3
    table = shift_table(source, target, {"all": np.arange(2)}, ["x", "y"])
    assert table.features == ("x mean", "y mean", "x std", "y std")
    assert np.abs(table.d).argmax() == 3
    assert table.d[3] > 5


def test_modalities_take_indices_and_names_and_leave_a_rest() -> None:
    branches = by_modality({"motion": ["ax", 1], "sound": ["db"]}, ["ax", "ay", "db", "lux"])
    assert {name: columns.tolist() for name, columns in branches.items()} == {
        "motion": [0, 1],
        "sound": [2],
        "rest": [3],
    }


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        ({"a": []}, "'a' has no columns"),
        ({"a": [2]}, "columns 0 to 1"),
        ({"a": [-1]}, "columns 0 to 1"),
        ({"a": ["z"]}, "names column 'z'"),
        ({"a": [0], "b": [1, 0]}, "is in modalities 'a' and 'b'"),
    ],
)
def test_wrong_modalities_are_named(modalities: dict[str, list[int]], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        by_modality(modalities, ["x", "y"])


def test_branches_by_shift_go_from_the_least_to_the_most_shifted() -> None:
    branches = by_shift(np.array([0.1, -3.0, 0.2, 1.0, -0.05]), 2)
    assert [columns.tolist() for columns in branches.values()] == [[0, 2, 4], [1, 3]]
    assert len(by_shift(np.zeros(2), 5)) == 2
