"""Options of a multiple-choice question: the data set's own, or answers to other questions of the same kind.

Wrong options that come from anywhere give the right one away: of "street, brown, two, fly, kitchen" only one
says how many. So they are drawn from the answers to questions of the same kind, each as often as it is given:
who knows only the question cannot tell them from the right one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from paramcast.training.seeding import generator_for
from paramcast.video.data.answers import normalized
from paramcast.video.data.clip import Clip, Question

OPTIONS = 5
"""Answers to choose from, the right one among them, where the data set has no options of its own."""

_WORD = re.compile(r"\w+")


class Distractors:
    """The answers of a collection by kind of question, and wrong options that are drawn from them.

    Which ones, and in which order, follows from the collection, the clip and the question alone: training,
    evaluation and devices ask the same.

    Args:
        clips: Whose answers; clips with made questions are left out.
    """

    def __init__(self, clips: Iterable[Clip]) -> None:
        self._pools: dict[str, list[str]] = {}
        for clip in clips:
            for question in () if clip.made else clip.qa:
                for kind in _kinds(question):
                    self._pools.setdefault(kind, []).append(question.answer)

    def options(self, clip_id: str, question: Question, count: int = OPTIONS) -> list[str]:
        """The right answer among the question's own options, or among `count` - 1 answers of its kind.

        Where the collection has fewer, there are fewer options.
        """
        if question.options:
            return list(question.options)
        rng = generator_for("options", clip_id, question.question, question.answer)
        found: list[str] = []
        taken = set(map(normalized, question.right))
        for pool in (self._pools.get(kind, []) for kind in _kinds(question)):
            for place in rng.permutation(len(pool)).tolist():
                if len(found) == count - 1:
                    break
                if normalized(pool[place]) not in taken:
                    taken.add(normalized(pool[place]))
                    found.append(pool[place])
        found.insert(int(rng.integers(len(found) + 1)), question.answer)
        return found


def right_option(question: Question, options: Sequence[str]) -> int:
    """The place of the right answer among the options of a question."""
    wanted = normalized(question.answer)
    return next(place for place, option in enumerate(options) if normalized(option) == wanted)


def _kinds(question: Question) -> Iterator[str]:
    """From the narrowest: what the data set says, then by the first words; all questions are of the last."""
    words = [word.lower() for word in _WORD.findall(question.question)]
    if question.kind is not None:
        yield f"{question.kind} {' '.join(words[:2])}"
        yield f"{question.kind}"
    yield f": {' '.join(words[:2])}"
    yield f": {' '.join(words[:1])}"
    yield ":"
