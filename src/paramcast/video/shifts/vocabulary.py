"""Vocabularies: devices use different words for the same things.

There are a few dialects. In a dialect, every concept of the table in `synonyms` has one fixed word. A device
uses one dialect for a share of all concepts, and the common words for the other concepts. So the words of its
questions show which words it uses in its answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType

import numpy as np

from paramcast.errors import InputError
from paramcast.training.seeding import generator_for
from paramcast.video.shifts import synonyms

DIALECTS = 4
"""Number of dialects."""

_WORD = re.compile(r"(?:\b(an?)( +))?\b([a-z]+)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Vocabulary:
    """The words of one device.

    Attributes:
        seed: Chooses the dialect and the concepts that it covers; any int.
        strength: Share of the concepts that the dialect covers, in [0, 1]; 0 changes nothing.

    Raises:
        InputError: The strength is out of range.
    """

    seed: int
    strength: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise InputError(f"a vocabulary's strength lies in [0, 1], not {self.strength}")

    @property
    def dialect(self) -> int:
        """Number of the device's dialect, in [0, DIALECTS)."""
        return int(generator_for("dialect", self.seed).integers(DIALECTS))

    @property
    def words(self) -> Mapping[str, str]:
        """Concept (its common word) -> this device's word, for every concept that the dialect covers."""
        return _chosen(self.seed, self.strength)

    def rewrite(self, text: str) -> str:
        """Replace every word of the table by this device's word for the concept.

        Plurals, verb forms, capitals and a preceding 'a' or 'an' are adjusted; everything else stays
        unchanged. A synonym is replaced in the same way as the common word, so that a device never mixes
        words for one concept. Rewriting a text twice gives the same as rewriting it once.
        """
        chosen = self.words

        def replace(match: re.Match[str]) -> str:
            article, space, word = match.groups(default="")
            concept, form = _forms().get(word.lower(), ("", 0))
            if concept not in chosen:
                return match.group()
            own = _bend(chosen[concept], _table()[concept][0])[form]
            return _agreeing(article, own) + space + _like(word, own)

        return _WORD.sub(replace, text)

    def answer(self, answer: str) -> str:
        """Rewrite an answer in this device's words."""
        return self.rewrite(answer)

    def describe(self) -> np.ndarray:
        """Describe the words to the oracle: (VOCABULARY_WORDS,) float32, 1 at each synonym in use, else 0."""
        told = np.zeros(VOCABULARY_WORDS, np.float32)
        for concept, word in self.words.items():
            told[_places()[concept, word]] = 1.0
        return told


def answer_words(answers: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the answers that devices may give instead of the common answers, sorted.

    Args:
        answers: The common answers; None: all concepts of the table.

    Returns:
        Rewritten answers without the common answers, each in the form of its common answer ('men' gives
        'guys').
    """
    if answers is None:
        return tuple(sorted(word for _, words in _table().values() for word in words))
    common = set(answers)
    variants: set[str] = set()
    for answer in common:
        concept, form = _forms().get(answer.lower(), ("", 0))
        if concept:
            kind, words = _table()[concept]
            variants.update(_bend(word, kind)[form] for word in words)
        else:  # an answer of several words, rewritten in each dialect
            variants.update(Vocabulary(_speaker(dialect), 1.0).answer(answer) for dialect in range(DIALECTS))
    return tuple(sorted(variants - common))


@lru_cache(maxsize=DIALECTS)
def _speaker(dialect: int) -> int:
    """Find a seed that chooses `dialect`."""
    return next(seed for seed in range(10_000) if Vocabulary(seed, 1.0).dialect == dialect)


@lru_cache(maxsize=512)
def _chosen(seed: int, strength: float) -> Mapping[str, str]:
    dialect = Vocabulary(seed, strength).dialect
    covered = generator_for("covered", seed).random(len(_table())) < strength
    own = zip(_table(), covered, strict=True)
    return MappingProxyType({concept: _dialect_word(concept, dialect) for concept, speaks in own if speaks})


@cache
def _dialect_word(concept: str, dialect: int) -> str:
    """Return the word of a dialect for a concept.

    The assignment of words to dialects is shuffled for each concept. So a few concepts identify a dialect.
    """
    words = _table()[concept][1]
    place = generator_for("words", concept).permutation(DIALECTS)[dialect]
    return words[int(place) % len(words)]


@cache
def _table() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Parse the table: concept -> (kind, its synonyms)."""
    table: dict[str, tuple[str, tuple[str, ...]]] = {}
    for kind, lines in (("noun", synonyms.NOUNS), ("verb", synonyms.VERBS), ("other", synonyms.OTHERS)):
        for line in lines.strip().splitlines():
            concept, _, words = line.partition(":")
            table[concept.strip()] = (kind, tuple(words.split()))
    return table


@cache
def _places() -> dict[tuple[str, str], int]:
    pairs = [(concept, word) for concept, (_, words) in _table().items() for word in words]
    return {pair: place for place, pair in enumerate(pairs)}


@cache
def _forms() -> dict[str, tuple[str, int]]:
    """Make a map from any form of any word of the table to (its concept, the index of the form)."""
    forms: dict[str, tuple[str, int]] = {}
    for concept, (kind, words) in _table().items():
        for word in (concept, *words):
            for form, text in enumerate(_bend(word, kind)):
                forms.setdefault(text, (concept, form))
    return {text: place for text, place in forms.items() if text not in synonyms.UNTOUCHED}


@cache
def _irregular() -> dict[tuple[str, str], list[str]]:
    """Parse irregular forms: (kind, base form) -> plural of a noun, or past and participle of a verb."""
    irregular = {}
    for kind, text in (("noun", synonyms.IRREGULAR_NOUNS), ("verb", synonyms.IRREGULAR_VERBS)):
        for entry in text.split(","):
            base, *others = entry.split()
            irregular[kind, base] = others
    return irregular


@cache
def _bend(word: str, kind: str) -> tuple[str, ...]:
    """Return all forms of a word.

    These are singular and plural of a noun; base, -s, -ing, past and participle of a verb; else the word.
    """
    if kind == "noun":
        return (word, *_irregular().get((kind, word), [_with_s(word)]))
    if kind == "verb":
        stem = word + word[-1] if word in synonyms.DOUBLING.split() else word.removesuffix("e")
        regular = word[:-1] + "ied" if _ends_in_consonant_y(word) else stem + "ed"
        past, participle = _irregular().get((kind, word), [regular, regular])
        return (word, _with_s(word), stem + "ing", past, participle)
    return (word,)


def _with_s(word: str) -> str:
    if _ends_in_consonant_y(word):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _ends_in_consonant_y(word: str) -> bool:
    return word.endswith("y") and word[-2] not in "aeiou"


def _like(model: str, word: str) -> str:
    """Return `word` with the capitals of `model`."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


def _agreeing(article: str, word: str) -> str:
    """Return 'a' or 'an' for `word` (no word of the table in u- needs 'an'); '' stays ''."""
    if not article:
        return ""
    return article[0] + ("n" if word[0] in "aeio" else "")


VOCABULARY_WORDS = len(_places())
"""Length of `Vocabulary.describe()`: one value for each synonym of the table."""
