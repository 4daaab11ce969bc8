"""Comparison of answers, by the rules of the field's evaluation scripts.

The comparison ignores case, blanks, articles, hyphens within words and punctuation. Numbers below a hundred
may be words or digits, and contractions may lack their apostrophe. The scripts of VQA (GT-Vision-Lab/VQA) and
of the data sets that follow it have the same rules. The compared form is not shown to users: an answer keeps
its spelling.
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
_NUMBERS = {word: number for number, word in enumerate(_NUMBER_WORDS.split())} | {"none": 0}
_TENS_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {word: 10 * number for number, word in enumerate(_TENS_WORDS.split(), start=2)}
_MARKS = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"'} | dict.fromkeys("‐‑‒–—―−﹣－", "-"))
_APOSTROPHE = re.compile(r"'")
_INSIDE_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?!\d))|(?<!\d)\.(?=\d)|\.(?!\d)")
_SPAN = re.compile(r"(?<=\d)\s+-\s+(?=\d)")
_PUNCTUATION = re.compile(r"[^\w\s.,:$€£%°+#&@-]|[,:](?!\d)|(?<!\d)[,:]|(?<=[^\W\d])-|-(?!\d)")
_BEFORE_UNIT = re.compile(r"(?<=\d)\s+(?=[%°])")


@lru_cache(maxsize=65536)
def normalized(answer: str) -> str:
    """Convert an answer to the form in which answers are compared; 'The  Donut.' gives 'donut'.

    An answer that consists only of articles or punctuation is kept, without surplus blanks.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", answer).casefold()).translate(_MARKS)
    text = _SPAN.sub("-", _APOSTROPHE.sub("", text))
    text = _INSIDE_NUMBER.sub(_in_number, text)  # 1,000 is 1000, .5 is 0.5, U.S. is us
    text = _PUNCTUATION.sub(_blank, text).replace("_", " ")
    words = _numbered([word for word in text.split() if word not in _ARTICLES])
    return (
        _BEFORE_UNIT.sub("", " ".join(words)) or " ".join(text.split()) or " ".join(answer.casefold().split())
    )


def _in_number(found: re.Match[str]) -> str:
    after = found.string[found.end() : found.end() + 1]
    return "0." if found.group() == "." and after.isdigit() else ""


def _blank(found: re.Match[str]) -> str:
    """Choose the replacement of a character: accents stay, invisible ones vanish, others become a blank."""
    kind = unicodedata.category(found.group())
    return found.group() if kind[0] == "M" else "" if kind in ("Cf", "Cc") else " "


def _numbered(words: list[str]) -> list[str]:
    """Convert number words to digits: 'twenty one' is 21."""
    found: list[str] = []
    tens = 0
    for word in words:
        number = _NUMBERS.get(word)
        if tens and number is not None and 0 < number < 10:
            found[-1] = str(tens + number)
        else:
            found.append(str(_TENS.get(word, number)) if word in _TENS or number is not None else word)
        tens = _TENS.get(word, 0)
    return found


def same_answer(one: str, other: str) -> bool:
    """Check whether two answers count as equal."""
    return normalized(one) == normalized(other)


def most_given(answers: Sequence[str]) -> str:
    """Return the most frequent answer, in its most frequent spelling; the first answer in case of a tie."""
    counts = Counter(map(normalized, answers))
    best = max(counts, key=lambda answer: counts[answer])
    return Counter(answer for answer in answers if normalized(answer) == best).most_common(1)[0][0]


def classes(counts: Mapping[str, int]) -> list[str]:
    """Return the different answers, the most frequent first, each in its most frequent spelling.

    Args:
        counts: Spelling of an answer -> its frequency.
    """
    totals: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    for answer, count in sorted(counts.items(), key=lambda item: -item[1]):
        totals[normalized(answer)] += count
        spelled.setdefault(normalized(answer), answer.strip())
    return [spelled[answer] for answer, _ in totals.most_common()]


def variants(answers: Iterable[str]) -> dict[str, list[str]]:
    """Find the answers with several spellings: compared form -> its spellings, sorted."""
    spellings: dict[str, set[str]] = {}
    for answer in answers:
        spellings.setdefault(normalized(answer), set()).add(answer)
    return {answer: sorted(those) for answer, those in spellings.items() if len(those) > 1}


def consensus(matches: int, given: int) -> float:
    """Compute VQA's accuracy of an answer, 0..1.

    Each person is left out once. The accuracy is the mean of min(1, matches among the other people / 3).

    Args:
        matches: Number of people who gave the scored answer.
        given: Number of people who answered, >= 1; with one person, the accuracy is `matches`.
    """
    if given == 1:
        return float(matches)
    left_out_agrees = matches * min(1.0, (matches - 1) / 3) if matches else 0.0
    return (left_out_agrees + (given - matches) * min(1.0, matches / 3)) / given
