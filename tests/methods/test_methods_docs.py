"""The code of the three methods' pages runs on data of their kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from documentation import run_page

DOMAINS = np.repeat([1, 2, -3], 40)


def samples(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes apart in every feature, and domains that are moved."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=len(DOMAINS))
    return 2 * labels[:, None] + 0.5 * DOMAINS[:, None] + rng.normal(size=(len(labels), width)), labels


def test_m3bat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = samples(6)
    assert run_page("methods/m3bat.md", X=x, y=y, sample_domain=DOMAINS, X_new=x[:3]) == 1
    assert (tmp_path / "shift.png").stat().st_size > 0


def test_cmda_ot() -> None:
    x, y = samples(6)
    assert run_page("methods/cmda_ot.md", X=x, y=y, domain=DOMAINS, X_target=x[DOMAINS < 0]) == 1


def test_mm_adapter() -> None:
    rng = np.random.default_rng(0)
    texts, labels = rng.normal(size=(3, 64)).astype(np.float32), np.repeat([0, 1, 2], 4)
    images = texts[labels] + rng.normal(size=(12, 64)).astype(np.float32)
    known = {"images": images, "y": labels, "texts": texts, "other_texts": texts[::-1].copy()}
    assert run_page("methods/mm_adapter.md", **known) == 1
