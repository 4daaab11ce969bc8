"""Vocabularies: consistent, structured by dialects, safe to apply twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcast.errors import InputError
from paramcast.video.shifts import synonyms
from paramcast.video.shifts.vocabulary import DIALECTS, VOCABULARY_WORDS, Vocabulary, answer_words

SEEDS = st.integers(0, 2**31)
STRENGTHS = st.floats(0, 1)
WORDS = [
    word
    for text in (synonyms.NOUNS, synonyms.VERBS, synonyms.OTHERS)
    for word in text.replace(":", "").split()
]
SENTENCES = st.lists(
    st.sampled_from([*WORDS, "a", "an", "the", "An", "What", "is", "2", "?", ","]), max_size=12
)


def of_dialect(dialect: int) -> Vocabulary:
    return next(v for seed in range(1000) if (v := Vocabulary(seed, 1.0)).dialect == dialect)


def test_no_word_stands_twice_in_the_table() -> None:
    assert len(WORDS) == len(set(WORDS))
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


@given(SEEDS, STRENGTHS, SENTENCES)
def test_rewriting_twice_is_rewriting_once(seed: int, strength: float, words: list[str]) -> None:
    vocabulary = Vocabulary(seed, strength)
    once = vocabulary.rewrite(" ".join(words))
    assert vocabulary.rewrite(once) == once


@given(SEEDS, st.text(max_size=60))
def test_strength_zero_changes_nothing(seed: int, text: str) -> None:
    assert Vocabulary(seed, 0.0).rewrite(text) == text
    assert not Vocabulary(seed, 0.0).describe().any()


@given(SEEDS, STRENGTHS)
def test_one_word_for_one_concept(seed: int, strength: float) -> None:
    vocabulary = Vocabulary(seed, strength)
    word = vocabulary.answer("man")
    assert vocabulary.rewrite("the man and the guy") in (f"the {word} and the {word}", "the man and the guy")
    assert vocabulary.rewrite("is a man there?").split()[2] == word


@given(SEEDS, st.floats(0.5, 1))
def test_describe_is_the_true_choice(seed: int, strength: float) -> None:
    vocabulary = Vocabulary(seed, strength)
    told = vocabulary.describe()
    assert told.shape == (VOCABULARY_WORDS,)
    assert told.dtype == np.float32
    assert set(np.unique(told)) <= {0.0, 1.0}
    assert told.sum() == len(vocabulary.words)


def test_strength_is_the_share_of_concepts() -> None:
    concepts = len(Vocabulary(0, 1.0).words)
    shares = [len(Vocabulary(seed, 0.5).words) / concepts for seed in range(40)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)


def test_words_are_structured_by_dialect() -> None:
    for seed in range(40):
        vocabulary = Vocabulary(seed, 0.7)
        dialect = of_dialect(vocabulary.dialect)
        assert all(dialect.words[concept] == word for concept, word in vocabulary.words.items())
    for first in range(DIALECTS):
        for second in range(first):
            one, other = of_dialect(first).words, of_dialect(second).words
            assert np.mean([one[concept] != other[concept] for concept in one]) > 0.4


def test_forms_capitals_and_articles_agree() -> None:
    vocabulary = next(
        v
        for seed in range(500)
        if (v := Vocabulary(seed, 1.0)).answer("car") == "automobile" and v.answer("stop") == "halt"
    )
    assert vocabulary.rewrite("A car stopped. Two CARS stop; a  Car.") == (
        "An automobile halted. Two AUTOMOBILES halt; an  Automobile."
    )


def test_untouched_words_and_text_stay() -> None:
    text = "on the left, 3 zebras (blue-ish?) — naïve café"
    rewritten = of_dialect(0).rewrite(text)
    assert rewritten.replace(of_dialect(0).answer("blue"), "blue") == text


@given(SEEDS, STRENGTHS, st.lists(st.sampled_from([*WORDS, "men", "rolls", "zebra"]), min_size=1, max_size=8))
def test_every_answer_is_among_the_answer_words(seed: int, strength: float, answers: list[str]) -> None:
    vocabulary = Vocabulary(seed, strength)
    possible = {*answers, *answer_words(answers)}
    assert {vocabulary.answer(answer) for answer in answers} <= possible


@pytest.mark.parametrize("dialect", range(DIALECTS))
def test_every_form_of_every_word_has_one_of_its_own(dialect: int) -> None:
    forms = " ".join(word + ending for word in WORDS for ending in ("", "s", "es", "ing", "ed"))
    said = of_dialect(dialect).rewrite(forms)
    assert len(said.split()) == len(forms.split())
    assert of_dialect(dialect).rewrite(said) == said


def test_words_that_bend_by_no_rule() -> None:
    assert of_dialect(0).rewrite("two knives, elves, apparel, food") == "two cleavers, elves, attire, fare"


def test_answer_words_of_the_whole_table() -> None:
    assert len(answer_words()) == VOCABULARY_WORDS
    assert {"gentleman", "scarlet", "yeah"} <= set(answer_words())


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_wrong_strength_is_refused(strength: float) -> None:
    with pytest.raises(InputError):
        Vocabulary(0, strength)
