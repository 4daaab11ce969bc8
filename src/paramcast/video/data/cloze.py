"""Questions made from captions: one question for each word of a caption that is a known answer.

The questions of MSRVTT-QA were made from captions by rules, too (Xu et al., ACM Multimedia 2017). Made
questions add training data from clips without questions; docs/log.md reports the gain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import simplemma

from paramcast.video.data.collection import Clip, Question

_WORD = re.compile(r"[a-z0-9']+")
_BE = frozenset(("is", "are"))
_ARTICLES = "a an the his her their its some"
_OTHERS = "is are of in on with and to it for at from by as this that be"
_PEOPLE = (
    "actor actress baby band boy chef child couple crowd dancer girl group guy kid lady man person player "
    "singer someone team woman"
)
_BEFORE_NOUNS = frozenset(_ARTICLES.split())
_EMPTY = _BEFORE_NOUNS.union(_OTHERS.split())
_WHO = frozenset(_PEOPLE.split())
_LONG = 5
"""If more words than this precede a verb, they are not only its subject."""


def clozes(caption: str, answers: frozenset[str]) -> list[Question]:
    """Make a question for each word of `caption` that is one of `answers`, in base form or unchanged.

    'a man is driving a car' gives 'what is a man doing' (drive), 'who is driving a car' (man), and so on.
    The grammar may be wrong: the questions are good enough for training, but not for users.
    """
    words = _WORD.findall(caption.lower())
    found = []
    for place, word in enumerate(words):
        if word in _EMPTY:
            continue
        base = simplemma.lemmatize(word, lang="en")
        answer = base if base in answers else word
        if answer in answers:
            found.append(Question(_question(words, place, answer), answer))
    return found


def with_clozes(clips: Iterable[Clip], answers: Iterable[str]) -> list[Clip]:
    """Copy the clips, with questions made from their captions instead of the clips' questions.

    Clips whose captions give no question are left out. The copies have new ids and the same frames.
    """
    known = frozenset(answers)
    made = []
    for clip in clips:
        questions = [question for caption in clip.captions for question in clozes(caption, known)]
        if questions:
            made.append(replace(clip, id=f"{clip.id} in its captions", qa=tuple(questions), made=True))
    return made


def _question(words: list[str], place: int, answer: str) -> str:
    before, after = words[:place], words[place + 1 :]
    if words[place].endswith("ing"):
        be = "are" if before[-1:] == ["are"] else "is"
        subject = before[:-1] if before and before[-1] in _BE else before
        if len(subject) <= _LONG:
            return f"what {be} {' '.join(subject) or 'someone'} doing"
        return f"what is being done {' '.join(after)}".rstrip()
    while before and before[-1] in _BEFORE_NOUNS:
        before = before[:-1]
    if answer in _WHO and place <= 2:
        return f"who {' '.join(after)}".rstrip()
    asked = "who" if answer in _WHO else "what"
    verb = [] if _BE.intersection(words) else ["is"]
    return " ".join([asked, *verb, *before, *after])
