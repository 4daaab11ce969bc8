"""The page: one file, well-formed, with what was measured and nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from evaluations import evaluation, page

from paramcast.bench.report.evaluation import verdict
from paramcast.bench.report.svg import Chart, room, spread, ticks


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
    assert "<h2>Costs</h2>" not in text
    assert len(re.findall("<svg", text)) == 2 * 3


def row(gain: tuple[float, float], matters: tuple[float, float]) -> dict[str, dict[str, float]]:
    named = {"gain": gain, "own_minus_shuffled": matters}
    return {name: {"low": low, "high": high} for name, (low, high) in named.items()}


@pytest.mark.parametrize(
    ("gain", "matters", "said"),
    [
        ((1, 3), (1, 3), "own package that makes it"),
        ((1, 3), (-1, 3), "not shown to come from the device's own"),
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
