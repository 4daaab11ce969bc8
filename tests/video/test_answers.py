"""Which answers count as the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcast.video.data.answers import classes, consensus, most_given, normalized, same_answer, variants


@pytest.mark.parametrize(
    "spelling",
    ["Donut", "donut.", "donut ", "a donut", "donut\n", "DONUT", "the donut!", "\tDonut\r\n", "“donut”"],
)
def test_spellings_of_one_answer(spelling: str) -> None:
    assert normalized(spelling) == "donut"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("one", "1"),
        ("Ten", "10"),
        ("1,000", "1000"),
        ("don't", "dont"),
        ("don’t", "dont"),
        ("t shirt", "t  shirt"),
        ("ｃａｔ", "cat"),
        ("T-shirt", "t shirt"),
        ("t–shirt", "t-shirt"),
        ("\u22121", "-1"),
        ("3 – 4", "3-4"),
        ("U.S.", "us"),
        ("a.m.", "am"),
        ("twenty-one", "21"),
        ("forty two", "42"),
        ("a dozen.", "dozen"),
        (".5", "0.5"),
        ("10 %", "10%"),
        ("isn’t", "isnt"),
        ("ca\u200bt", "cat"),
        ("cafe\u0301", "café"),
    ],
)
def test_the_same(one: str, other: str) -> None:
    assert same_answer(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "cats"),
        ("1.5", "15"),
        ("a", "the"),
        ("-5", "5"),
        ("c++", "c"),
        ("3:30", "330"),
        ("left", "right"),
        ("\u22125", "5"),
        (".5", "5"),
        ("1,5", "15"),
        ("twenty", "21"),
        ("3-4", "34"),
        ("कि", "का"),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert not same_answer(one, other)


@given(st.text())
def test_once_is_enough(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)


def test_the_most_given_and_the_classes() -> None:
    assert most_given(["thing", "object", "Thing", "thing."]) == "thing"
    assert classes({"cat\n": 3, "dog": 4, "Cat": 2}) == ["cat", "dog"]
    assert variants(["cat", "cat ", "dog"]) == {"cat": ["cat", "cat "]}


def test_consensus_is_that_of_vqa() -> None:
    def by_definition(matches: int, given: int) -> float:
        agree = [1] * matches + [0] * (given - matches)
        return sum(min(1.0, (matches - left) / 3) for left in agree) / given

    for given_ in range(2, 11):
        for matches in range(given_ + 1):
            assert consensus(matches, given_) == pytest.approx(by_definition(matches, given_))
    assert (consensus(1, 1), consensus(0, 1)) == (1.0, 0.0)
