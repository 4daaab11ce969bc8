"""The page and the table of a comparison, of made-up rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from paramcast.bench.compare import CompareOptions, Outcome, compare_rows
from paramcast.bench.figures import figures
from paramcast.bench.report.compare import write_comparison
from paramcast.bench.table import methods_table
from paramcast.training.tasks.base import Metric

METRICS = (Metric("r@10", "collection"), Metric("match3"))
OPTIONS = CompareOptions("category", 4, 8, 16, 0)


def outcome(method: str, scores: list[float], **cost: Any) -> Outcome:
    free = {
        "labels": 0,
        "bytes_up": 0,
        "bytes_down": 0,
        "bytes_per_query": {"1": 0, "10": 0, "100": 0, "1000": 0},
        "adapt_device_macs": 0,
        "adapt_device_peak_bytes": 0,
        "adapt_device_ms": 1.5,
        "cloud_ms": None,
        "cloud_query_ms": None,
        "leaves_device": [],
    }
    values = {METRICS[0]: np.array(scores), METRICS[1]: 100 - np.array(scores)}
    trials = [{"settings": {"rate": 0.1}, "score": 41.25}, {"settings": {"rate": 0.2}, "score": 42.5}]
    hindsight = cost.pop("hindsight", {})
    return Outcome(method, cost.pop("note", ""), {"rate": 0.2}, trials, values, hindsight, free | cost)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    outcomes = [
        outcome("base", [40.0, 50.0, 60.0, 70.0]),
        outcome("fta_16", [39.5, 48.0, 64.0, 70.0], labels=16, adapt_device_macs=3_000_000_000),
        outcome(
            "paramcast",
            [42.0, 53.0, 61.0, 76.0],
            bytes_up=2536,
            bytes_down=417,
            bytes_per_query={"1": 2953, "10": 295.3, "100": 29.53, "1000": 2.95},
            adapt_device_peak_bytes=34_500,
            cloud_ms=2.0,
        ),
        outcome(
            "cloud",
            [40.0, 51.0, 60.0, 70.0],
            note="a bigger model answers",
            bytes_per_query=dict.fromkeys(("1", "10", "100", "1000"), 20_480.0),
            cloud_query_ms=80.5,
        ),
    ]
    return compare_rows(outcomes, "retrieval", OPTIONS)


def test_rows_are_by_figure_and_then_by_score(rows: list[dict[str, Any]]) -> None:
    assert [(row["metric"], row["method"]) for row in rows] == [
        ("r@10", "paramcast"),
        ("r@10", "fta_16"),
        ("r@10", "cloud"),
        ("r@10", "base"),
        ("match3", "base"),
        ("match3", "cloud"),
        ("match3", "fta_16"),
        ("match3", "paramcast"),
    ]
    best, tuned, _, base = rows[:4]
    assert best["gain"]["mean"] == pytest.approx(3.0)
    assert best["controls"]["base"]["mean"] == pytest.approx(55.0)
    assert (best["worse_share"], tuned["worse_share"], base["worse_share"]) == (0, 0.25, 0)
    assert base["gain"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_the_table_has_what_each_takes(rows: list[dict[str, Any]]) -> None:
    lines = methods_table(rows).splitlines()
    assert lines[0].startswith("r@10 among all clips, percent: retrieval, shift category, 4 devices")
    assert lines[3].split()[0] == "paramcast"
    assert re.search(r"0 % +a bigger model answers$", lines[5])
    assert lines[-6].startswith("to adapt")
    assert re.search(
        r"paramcast +0 +2,536 +417 +2,953 +295 +30 +3 +0\.0 +34 +2\.0 cloud +nothing$", lines[-4]
    )
    assert re.search(r"cloud +0 +0 +0 +(20,480 +){4}0\.0 +0 +80\.5 cloud, each query +nothing$", lines[-2])
    assert re.search(r"fta_16 +16 +0 +0 +0 +0 +0 +0 +3,000\.0 +0 +1\.5 +nothing$", lines[-3])


def test_hindsight_stands_beside_results_on_a_foreign_collection() -> None:
    best = dict.fromkeys(METRICS, 61.25)
    made = compare_rows([outcome("base", [40.0, 60.0], hindsight=best)], "retrieval", OPTIONS)
    lines = methods_table(made).splitlines()
    assert lines[1].endswith("in hindsight")
    assert lines[3].endswith(" 61.2")


def test_the_page_is_well_formed_and_names_every_method(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    write_comparison(tmp_path / "c.html", figures("compare --methods 'a<b>'", 3, rows))
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 2 * 3 * 2  # figures, costs (bytes at two reuses), wide and narrow
    for picture in pictures:
        assert "nan" not in picture
        words = [element.text for element in ElementTree.fromstring(picture).iter("text")]
        assert {"base", "fta_16", "paramcast", "0"} <= set(words)
    assert "paramcast compare --methods &#39;a&lt;b&gt;&#39;" in page
    assert "rate 0.2" in page
    assert "41.25 42.50" in page
