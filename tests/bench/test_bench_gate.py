"""`bench gate`: what is counted, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from paramcast.bench.gate import Judged, gate_row, gate_table


def test_a_row_over_devices_of_several_models() -> None:
    rng = np.random.default_rng(0)
    gains = rng.normal(4, 1, (2, 50))
    gains[:, :5] = -2.0
    passed = np.ones((2, 50), bool)
    passed[:, :4] = False  # one loser of five is let through
    judged = [Judged(each, np.where(mine, each, 0.0), mine) for each, mine in zip(gains, passed, strict=True)]
    row = gate_row("vocabulary", judged, 2)
    assert (row["devices"], row["models"]) == (100, 2)
    assert (row["worse_open"], row["worse_gated"], row["passed"]) == pytest.approx((0.1, 0.02, 0.92))
    assert row["kept"]["mean"] == pytest.approx(np.where(passed, gains, 0).mean() / gains.mean(), abs=1e-3)
    assert row["kept"]["low"] < row["kept"]["mean"] < row["kept"]["high"]
    assert "105 %" in gate_table([row])
