"""Vocabularies: each device has its own words for the same things.

There are a few dialects that all devices draw from. In a dialect, every concept of the table in `synonyms`
has one fixed word. A device speaks one dialect, for a share of all concepts; for the rest it uses the common
words. So some of its words in its questions tell which words it will use in its answers.
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
"""How many dialects there are."""

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
        """In [0, DIALECTS): the dialect that the device speaks."""
        return int(generator_for("dialect", self.seed).integers(DIALECTS))

    @property
    def words(self) -> Mapping[str, str]:
        """Concept (its common word) -> this device's word, for every concept that its dialect covers here."""
        return _chosen(self.seed, self.strength)

    def rewrite(self, text: str) -> str:
        """Put every word that the table knows into this device's words.

        Plurals, verb forms, capitals and a preceding 'a' or 'an' are kept in agreement; everything else
        stays as it is. A synonym is rewritten like the common word, so that a device never mixes words for
        one concept. Rewriting twice is rewriting once.
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
        """The answer as this device gives it."""
        return self.rewrite(answer)

    def describe(self) -> np.ndarray:
        """Describe the words to the oracle: (VOCABULARY_WORDS,) float32, 1 at each synonym in use, else 0."""
        told = np.zeros(VOCABULARY_WORDS, np.float32)
        for concept, word in self.words.items():
            told[_places()[concept, word]] = 1.0
        return told


def answer_words(answers: Iterable[str] | None = None) -> tuple[str, ...]:
    """Every answer that some device may give instead of the common ones, sorted; without the common ones.

    Args:
        answers: The common answers; all concepts of the table if None.

    Returns:
        Rewritten answers, each in the form of the answer that it stands for ('men' gives 'guys').
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
        else:  # an answer of several words: as each dialect gives it
            variants.update(Vocabulary(_speaker(dialect), 1.0).answer(answer) for dialect in range(DIALECTS))
    return tuple(sorted(variants - common))


@lru_cache(maxsize=DIALECTS)
def _speaker(dialect: int) -> int:
    """A seed whose device speaks `dialect`."""
    return next(seed for seed in range(10_000) if Vocabulary(seed, 1.0).dialect == dialect)


@lru_cache(maxsize=512)
def _chosen(seed: int, strength: float) -> Mapping[str, str]:
    dialect = Vocabulary(seed, strength).dialect
    covered = generator_for("covered", seed).random(len(_table())) < strength
    own = zip(_table(), covered, strict=True)
    return MappingProxyType({concept: _dialect_word(concept, dialect) for concept, speaks in own if speaks})


@cache
def _dialect_word(concept: str, dialect: int) -> str:
    """Which dialects share a word is shuffled concept by concept, so that a few concepts tell them apart."""
    words = _table()[concept][1]
    place = generator_for("words", concept).permutation(DIALECTS)[dialect]
    return words[int(place) % len(words)]


@cache
def _table() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Concept -> (kind, its synonyms)."""
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
    """Any form of any word of the table -> (its concept, which form it is)."""
    forms: dict[str, tuple[str, int]] = {}
    for concept, (kind, words) in _table().items():
        for word in (concept, *words):
            for form, text in enumerate(_bend(word, kind)):
                forms.setdefault(text, (concept, form))
    return {text: place for text, place in forms.items() if text not in synonyms.UNTOUCHED}


@cache
def _irregular() -> dict[tuple[str, str], list[str]]:
    """(kind, base form) -> the other forms that do not follow the rules: plural, or past and participle."""
    irregular = {}
    for kind, text in (("noun", synonyms.IRREGULAR_NOUNS), ("verb", synonyms.IRREGULAR_VERBS)):
        for entry in text.split(","):
            base, *others = entry.split()
            irregular[kind, base] = others
    return irregular


@cache
def _bend(word: str, kind: str) -> tuple[str, ...]:
    """All forms: of a noun singular, plural; of a verb base, -s, -ing, past, participle; else the word."""
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
    """`word` with the capitals of `model`."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


def _agreeing(article: str, word: str) -> str:
    """'a' or 'an' as `word` wants it (none of the table's words in u- wants 'an'); '' stays ''."""
    if not article:
        return ""
    return article[0] + ("n" if word[0] in "aeio" else "")


VOCABULARY_WORDS = len(_places())
"""Length of `Vocabulary.describe()`: one place for each synonym of the table."""
