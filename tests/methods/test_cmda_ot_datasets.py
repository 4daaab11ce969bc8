"""The benchmark sets of CMDA-OT are read as their protocols say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paramcast.methods.cmda_ot.datasets import OFFICE_DOMAINS, mgr, office
from paramcast.methods.cmda_ot.errors import FederationInputError


def test_office(shared_data: Path) -> None:
    problems = list(office(shared_data / "features"))
    assert tuple(each.target for each in problems) == OFFICE_DOMAINS
    assert [len(each.y) for each in problems] == [958, 1123, 157, 295]
    for each in problems:
        X, y, domain = each.stacked()
        assert X.shape == (2533, 800)
        assert 0 <= X.min() <= X.max() <= 1
        assert sorted(set(domain)) == [-1, 1, 2, 3]
        assert set(y[domain < 0]) == {-1}


def test_mgr(shared_data: Path) -> None:
    problems = list(mgr(shared_data / "features"))
    assert len(problems) == 20
    for each in problems:
        assert each.X.shape == (800, 57)
        assert [len(y) for _, y in each.sources] == [800] * 4
        assert len(np.unique(each.y)) == 10


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FederationInputError, match=r"mgr\.npy does not exist"):
        next(mgr(tmp_path))
