"""The page: one file, well-formed, with what was measured and nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from paramcast.bench.figures import evaluation_rows, figures
from paramcast.bench.report import write_report
from paramcast.bench.report.page import verdict
from paramcast.bench.report.svg import Chart, room, spread, ticks
from paramcast.data.cameras import CAMERA_KINDS, Camera
from paramcast.data.fleet import Device, Fleet
from paramcast.data.vocabulary import Vocabulary
from paramcast.training.controls import Result
from paramcast.training.evaluate import Evaluation
from paramcast.training.tasks.base import Metric

COMMAND = "evaluate --model 'a <b>' --json F"


def evaluation(support_sizes: tuple[int, ...] = (1, 4, 16)) -> Evaluation:
    rng = np.random.default_rng(0)
    devices = tuple(
        Device(
            id=f"test-{number:04d}",
            split="test",
            support=("a",),
            query=("b",),
            cameras=(Camera(CAMERA_KINDS[number % 4], 0.5, 1),),
            vocabulary=Vocabulary(1, 0.7) if number % 2 else None,
            categories={"kitchen": 0.75, "road": 0.25},
            collection="world",
        )
        for number in range(12)
    )
    results = []
    for metric in (Metric("r@10", "collection"), Metric("r@1", "device")):
        for support in support_sizes:
            base = rng.normal(40, 5, 12)
            values = {name: base + rng.normal(1, 2, 12) for name in ("constant", "shuffled", "own", "oracle")}
            ids = tuple(device.id for device in devices)
            results.append(Result(metric, support, ids, {"base": base, **values}))
    return Evaluation(Fleet(devices), tuple(results))


def page(path: Path, made: Evaluation, with_costs: bool = True) -> str:
    cost = {
        "labels": 0,
        "bytes_up": 700,
        "bytes_down": 1400,
        "bytes_per_query": {"1": 2100.0, "10": 210.0, "100": 21.0, "1000": 2.1},
        "device_ms": 50.0,
        "cloud_ms": 2.0,
        "device_peak_mb": 300.0,
        "device_macs": 3_000_000_000,
        "leaves_device": ["features"],
    }
    costs = {each.support: cost | {"bytes_up": 400 + 260 * each.support} for each in made.results}
    rows = evaluation_rows(made.results, "retrieval", "category+camera", costs if with_costs else None)
    write_report(path, figures(COMMAND, 5, rows), made)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(tmp_path_factory.mktemp("report") / "r.html", evaluation())


class Balance(HTMLParser):
    """Raises if a tag is closed that is not the one that is open."""

    EMPTY = ("meta", "br", "path", "circle", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def test_it_is_well_formed(html: str) -> None:
    parser = Balance()
    parser.feed(html)
    assert parser.open == []
    pictures = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(pictures) == 2 * (2 + 1 + 1)  # wide and narrow: two metrics, devices, bytes
    for picture in pictures:
        ElementTree.fromstring(picture)
        assert "nan" not in picture


def test_it_needs_nothing_else(html: str) -> None:
    assert not re.search(r"(src|href)\s*=|url\(|@import|<script", html)
    assert "prefers-color-scheme: dark" in html


def test_it_says_what_made_it(html: str) -> None:
    assert "paramcast evaluate --model &#39;a &lt;b&gt;&#39; --json F" in html
    assert "<dd>5</dd>" in html


def test_it_has_every_figure(html: str) -> None:
    for result in evaluation().results:
        for values in result.values.values():
            assert f"<b>{values.mean():.1f}</b>" in html
    assert "r@10 among all clips" in html
    assert "own words" in html


def test_one_support_size_and_no_costs_are_enough(tmp_path: Path) -> None:
    text = page(tmp_path / "r.html", evaluation((8,)), with_costs=False)
    assert "What it costs" not in text
    assert len(re.findall("<svg", text)) == 2 * 3


def row(gain: tuple[float, float], matters: tuple[float, float]) -> dict[str, dict[str, float]]:
    named = {"gain": gain, "own_minus_shuffled": matters}
    return {name: {"low": low, "high": high} for name, (low, high) in named.items()}


@pytest.mark.parametrize(
    ("gain", "matters", "said"),
    [
        ((1, 3), (1, 3), "own package that makes it"),
        ((1, 3), (-1, 3), "not shown to be the device's own"),
        ((-1, 3), (1, 3), "No gain is shown"),
        ((-3, -1), (1, 3), "does harm"),
    ],
)
def test_the_verdict_is_what_the_intervals_allow(
    gain: tuple[float, float], matters: tuple[float, float], said: str
) -> None:
    assert said in verdict(row(gain, matters))


def test_ticks_are_round_and_within() -> None:
    assert ticks(39.2, 57.1) == [40, 45, 50, 55]
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(-3, 11) == [0, 5, 10]


def test_labels_are_moved_apart() -> None:
    assert spread([10, 12, 40], 15, 100) == [10, 25, 40]
    assert spread([90, 95, 99], 15, 100) == [70, 85, 100]


def test_all_values_alike_have_room() -> None:
    low, high = room([3.0, 3.0])
    assert low < 3 < high
    chart = Chart(200, 100, (0, 1), (low, high))
    assert chart.at(0, low)[1] > chart.at(0, high)[1]
