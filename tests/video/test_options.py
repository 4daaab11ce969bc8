"""Options of a multiple-choice question."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paramcast.video.data.options import OPTIONS, draw_options

words = st.text(min_size=1, max_size=5)


@given(st.lists(words, min_size=1, max_size=12, unique=True), words, words, words)
def test_the_answer_is_there_once_among_known_ones(
    answers: list[str], clip: str, question: str, answer: str
) -> None:
    options = draw_options(clip, question, answer, answers)
    assert options.count(answer) == 1
    assert len(options) == len(set(options)) == min(OPTIONS, len(answers))  # whether it is known or not
    assert set(options) <= {*answers, answer}
    assert draw_options(clip, question, answer, answers) == options


def test_every_place_and_every_other_answer_comes_up() -> None:
    answers = [f"answer {number}" for number in range(20)]
    drawn = [draw_options(f"clip {number}", "who?", "me", answers) for number in range(600)]
    places = [options.index("me") for options in drawn]
    assert all(70 < places.count(place) < 170 for place in range(OPTIONS))
    others = [option for options in drawn for option in options if option != "me"]
    assert all(60 < others.count(answer) < 190 for answer in answers)
