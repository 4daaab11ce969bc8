"""The page and the table of a comparison, of made-up rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramcast.bench.compare import CompareOptions, Outcome, compare_rows
from paramcast.bench.report.compare import cost_chart, kind_of, short, write_comparison
from paramcast.bench.report.labels import CHARACTER, LINE, Box, place_labels
from paramcast.bench.table import methods_table
from paramcast.results import results
from paramcast.training.controls import Metric

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
    write_comparison(tmp_path / "c.html", results("compare --methods 'a<b>'", 3, rows))
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 2 * 2 * 2  # figures, costs, wide and narrow
    for picture in pictures:
        assert "nan" not in picture
        words = [element.text for element in ElementTree.fromstring(picture).iter("text")]
        assert {"base", "fta_16", "paramcast", "cloud", "0"} <= set(words)
    assert "paramcast compare --methods &#39;a&lt;b&gt;&#39;" in page
    assert "rate 0.2" in page
    assert "41.25 42.50" in page
    assert page.count("<details>") == 1  # the first figure is in sight, the other one folded


def test_the_first_table_has_scores_and_costs(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    write_comparison(tmp_path / "c.html", results("compare", 3, rows))
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    first, second, *_ = re.findall(r"<table>.*?</table>", page, re.DOTALL)
    told = re.sub(r"<.*?>", " ", next(line for line in first.splitlines() if "paramcast" in line)).split()
    assert told[:2] == ["paramcast", "58.0"]
    assert " ".join(told[9:]) == "0 2.54 kB 417 B 2.95 kB 295 B 29.5 B 2.95 B 0 34.5 kB 2.0 cloud nothing"
    assert "a bigger model answers" in first
    assert "3.00 G" in first
    assert "3.00 G" not in second


def test_a_method_is_where_its_costs_and_its_score_are(rows: list[dict[str, Any]]) -> None:
    def cost(row: dict[str, Any]) -> float:
        return float(row["cost"]["bytes_per_query"]["1"])

    first = [row for row in rows if row["metric"] == "r@10"]
    picture = ElementTree.fromstring(cost_chart(first, cost, None, "bytes", 760))
    dots = {
        str(next(iter(dot)).text).split(":")[0]: (float(dot.attrib["cx"]), float(dot.attrib["cy"]))
        for dot in picture.iter("circle")
    }
    assert dots["base"][0] == dots["fta_16"][0] < dots["paramcast"][0] < dots["cloud"][0]
    assert dots["paramcast"][1] < dots["fta_16"][1] < dots["base"][1]  # higher scores are further up


def test_colours_tell_who_takes_labels(rows: list[dict[str, Any]]) -> None:
    kinds = {row["method"]: kind_of(row) for row in rows}
    assert kinds == {"base": "base", "fta_16": "labeled", "paramcast": "own", "cloud": "free"}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (0.42, "0.42 B"),
        (417, "417 B"),
        (999.6, "1.00 kB"),
        (2536, "2.54 kB"),
        (999_600, "1.00 MB"),
        (15_600_000, "15.6 MB"),
        (3e9, "3.00 GB"),
        (123e12, "1.23e+05 GB"),
    ],
)
def test_numbers_in_three_digits(number: float, words: str) -> None:
    assert short(number, "B") == words


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(60, 700), st.floats(30, 400)), min_size=1, max_size=26))
def test_names_never_overlap_and_stay_inside(points: list[tuple[float, float]]) -> None:
    names = [f"method_{number}" for number in range(len(points))]
    area = Box(44, 12, 746, 420)
    labels = place_labels(points, names, area)
    boxes = []
    for label, name in zip(labels, names, strict=True):
        if label is None:
            continue
        assert label.words == name
        width = CHARACTER * len(name)
        left = label.x if label.anchor == "start" else label.x - width
        boxes.append(Box(left, label.y - LINE / 2, left + width, label.y + LINE / 2))
    assert labels[0] is not None
    for number, box in enumerate(boxes):
        assert area.holds(box)
        assert not any(box.meets(other) for other in boxes[:number])


def test_methods_that_all_cost_nothing_are_named() -> None:
    points = [(100.0, 200.0 + 3 * number) for number in range(18)]
    labels = place_labels(points, ["mm_adapter"] * 18, Box(44, 22, 746, 420))
    assert None not in labels


def test_a_name_without_room_is_left_out() -> None:
    assert place_labels([(5, 5)], ["longer than this"], Box(0, 0, 40, 40)) == [None]
