"""Options of a multiple-choice question."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from paramcast.video.data.answers import normalized
from paramcast.video.data.clip import Clip, Question
from paramcast.video.data.options import OPTIONS, Distractors, right_option

words = st.text(min_size=1, max_size=5).filter(str.strip)


def clips(questions: list[Question]) -> list[Clip]:
    return [Clip(f"c{n}", Path(), n + 1, video="v.mp4", qa=(each,)) for n, each in enumerate(questions)]


@given(st.lists(st.builds(Question, words, words), max_size=12), words, st.builds(Question, words, words))
def test_the_right_answer_is_there_once(others: list[Question], clip: str, question: Question) -> None:
    drawn = Distractors(clips([*others, question]))
    options = drawn.options(clip, question)
    compared = [normalized(option) for option in options]
    assert compared.count(normalized(question.answer)) == 1
    assert options[right_option(question, options)] == question.answer
    assert len(compared) == len(set(compared)) <= OPTIONS
    assert set(options) <= {each.answer for each in [*others, question]}
    assert drawn.options(clip, question) == options


def test_wrong_options_answer_the_same_kind_of_question() -> None:
    asked = [
        Question(f"how many {thing} move?", count)
        for thing in "abcd"
        for count in ["one", "two", "three", "four", "five", "six"]
    ]
    asked += [
        Question(f"what color is {thing}?", color)
        for thing in "abcd"
        for color in ["red", "blue", "green", "white", "black"]
    ]
    asked += [Question("who sings?", name) for name in ("man", "woman")]
    drawn = Distractors(clips(asked))
    for place, question in enumerate(asked):
        options = set(drawn.options(f"c{place}", question))
        if question.question.startswith("how"):
            assert options <= {"one", "two", "three", "four", "five", "six"}
        elif question.question.startswith("what"):
            assert options == {"red", "blue", "green", "white", "black"}
        else:
            assert {"man", "woman"} <= options
            assert len(options) == OPTIONS  # filled up with answers to other questions


def test_who_knows_only_the_question_is_no_better_than_chance() -> None:
    """Frequent answers are as often wrong options as right ones."""
    answers = ["two"] * 60 + ["three"] * 25 + ["four"] * 10 + ["five"] * 5 + ["six"] * 5 + ["seven"] * 5
    asked = [Question(f"how many of {n}?", answer) for n, answer in enumerate(answers)]
    drawn = Distractors(clips(asked))
    most_frequent = Counter(answers)
    right = 0
    for place, question in enumerate(asked):
        options = drawn.options(f"c{place}", question)
        right += max(options, key=lambda option: most_frequent[option]) == question.answer
    anywhere = 100 * 60 / len(asked)
    assert 100 * right / len(asked) <= anywhere  # not above the share of the most frequent answer


def test_the_data_sets_own_options_stay_as_they_are() -> None:
    question = Question("why?", "c", options=("a", "b", "c", "d"))
    assert Distractors(clips([question])).options("c0", question) == ["a", "b", "c", "d"]


def test_a_wrong_option_is_none_of_several_right_answers_nor_another_spelling() -> None:
    asked = [
        Question("what is it?", answer) for answer in ("Cat", "a cat", "kitty", "dog", "cow", "horse", "pig")
    ]
    question = replace(asked[0], answers=("Cat", "kitty"))
    options = Distractors(clips(asked)).options("c0", question)
    assert sorted(options) == ["Cat", "cow", "dog", "horse", "pig"]


def test_made_questions_give_no_options() -> None:
    mine = clips([Question("what?", "x"), Question("what?", "y")])
    made = replace(mine[1], made=True)
    assert Distractors([mine[0], made]).options("c0", mine[0].qa[0]) == ["x"]
