"""Questions made from captions."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcast.video.data.cloze import clozes, with_clozes
from paramcast.video.data.collection import Clip, Collection, Question

ANSWERS = frozenset(("man", "drive", "car", "two", "dog"))


@pytest.mark.parametrize(
    ("caption", "question", "answer"),
    [
        ("A man is driving a car.", "what is a man doing", "drive"),
        ("A man is driving a car.", "who is driving a car", "man"),
        ("A man is driving a car.", "what a man is driving", "car"),
        ("two dogs", "what is dogs", "two"),
        ("driving", "what is someone doing", "drive"),
        ("a boy and a girl and a dog in cars driving fast", "what is being done fast", "drive"),
    ],
)
def test_a_known_answer_is_asked_for(caption: str, question: str, answer: str) -> None:
    assert Question(question, answer) in clozes(caption, ANSWERS)


def test_words_that_are_no_answers_are_not_asked_for() -> None:
    assert clozes("a bird is flying over the sea", ANSWERS) == []


@given(st.text(max_size=80), st.frozensets(st.text("abcdefgs ", min_size=1, max_size=6), max_size=8))
def test_any_caption_gives_questions_with_known_answers(caption: str, answers: frozenset[str]) -> None:
    for question in clozes(caption, answers):
        assert question.answer in answers
        assert question.question.strip()


def test_clips_are_made_from_captions_and_keep_their_pictures() -> None:
    clip = Clip("a", Path(), 1, frames=("0.png",), captions=("a man",), qa=(Question("why", "so"),))
    other = Clip("b", Path(), 2, frames=("1.png",), captions=("the sea",))
    collection = Collection(Path(), "two", (clip, other), {"a": clip, "b": other})
    (made,) = with_clozes(collection.clips, ["man"])
    assert made.frames == clip.frames
    assert made.qa == (Question("who", "man"),)
    assert made.id not in collection.by_id
    assert collection.extended([made]).by_id[made.id] is made
    assert collection.clips == (clip, other)
