"""When two answers count as the same: the field's evaluation scripts, in one place.

Answers are compared without regard to case, blanks, articles and punctuation; numbers up to twenty may be
words or digits, contractions may lack their apostrophe. As in the scripts of VQA and of those who follow it
(GT-Vision-Lab/VQA), what is compared is not what is shown: an answer keeps its own spelling.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

_ARTICLES = frozenset(("a", "an", "the"))
_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {"none": "0"}
_QUOTES = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"'})
_APOSTROPHE = re.compile(r"'")
_INSIDE_NUMBER = re.compile(r"(?<=\d)[.,:](?=\d)")
_PUNCTUATION = re.compile(r"[^\w\s.,:$€£%°+#&@-]|[.,:](?!\d)|(?<!\w)-(?!\d)|-(?!\w)|(?<!\d)[.,:]")


@lru_cache(maxsize=65536)
def normalized(answer: str) -> str:
    """Bring an answer into the form in which answers are compared; 'The  Donut.' gives 'donut'.

    An answer of nothing but articles or punctuation stays as it is, without its blanks.
    """
    text = unicodedata.normalize("NFKC", answer).translate(_QUOTES).casefold()
    text = _INSIDE_NUMBER.sub(lambda found: "" if found.group() == "," else found.group(), text)
    text = _PUNCTUATION.sub(" ", _APOSTROPHE.sub("", text)).replace("_", " ")
    words = [_NUMBERS.get(word, word) for word in text.split() if word not in _ARTICLES]
    return " ".join(words) or " ".join(text.split()) or " ".join(answer.casefold().split())


def same_answer(one: str, other: str) -> bool:
    """Whether two answers count as the same."""
    return normalized(one) == normalized(other)


def most_given(answers: Sequence[str]) -> str:
    """The answer that was given most often, the first of those; in its most frequent spelling."""
    counts = Counter(map(normalized, answers))
    best = max(counts, key=lambda answer: counts[answer])
    return Counter(answer for answer in answers if normalized(answer) == best).most_common(1)[0][0]


def classes(counts: Mapping[str, int]) -> list[str]:
    """The answers to tell apart, the most frequent first, each in its most frequent spelling.

    Args:
        counts: Answer as it is spelled -> how often it is given.
    """
    totals: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    for answer, count in sorted(counts.items(), key=lambda item: -item[1]):
        totals[normalized(answer)] += count
        spelled.setdefault(normalized(answer), answer.strip())
    return [spelled[answer] for answer, _ in totals.most_common()]


def variants(answers: Iterable[str]) -> dict[str, list[str]]:
    """The answers that are spelled in several ways: compared form -> its spellings, sorted."""
    spellings: dict[str, set[str]] = {}
    for answer in answers:
        spellings.setdefault(normalized(answer), set()).add(answer)
    return {answer: sorted(those) for answer, those in spellings.items() if len(those) > 1}


def consensus(matches: int, given: int) -> float:
    """VQA's accuracy, 0..1: the mean over all but one of the people of min(1, those who agree / 3).

    Args:
        matches: People whose answer is the one that is scored.
        given: People who answered, >= 1.
    """
    if given == 1:
        return float(matches)
    left_out_agrees = matches * min(1.0, (matches - 1) / 3) if matches else 0.0
    return (left_out_agrees + (given - matches) * min(1.0, matches / 3)) / given
