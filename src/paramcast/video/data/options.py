"""Options of a multiple-choice question: the data set's options, or answers to questions of the same kind.

Wrong options of other kinds would reveal the right one: of "street, brown, two, fly, kitchen" only one
answers "how many". So the wrong options are drawn from the answers to questions of the same kind, in
proportion to their frequency. Then the question alone does not reveal the right option.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from paramcast.training.seeding import generator_for
from paramcast.video.data.answers import normalized
from paramcast.video.data.clip import Clip, Question

OPTIONS = 5
"""Number of options, the right one among them, where the data set has no options."""

_WORD = re.compile(r"\w+")


class Distractors:
    """Answers of a collection by kind of question, from which wrong options are drawn.

    The options and their order depend only on the collection, the clip and the question. So training,
    evaluation and devices use the same options.

    Args:
        clips: The clips of the collection; clips with made questions are ignored.
    """

    def __init__(self, clips: Iterable[Clip]) -> None:
        self._pools: dict[str, list[str]] = {}
        for clip in clips:
            for question in () if clip.made else clip.qa:
                for kind in _kinds(question):
                    self._pools.setdefault(kind, []).append(question.answer)

    def options(self, clip_id: str, question: Question, count: int = OPTIONS) -> list[str]:
        """Return the question's options, or its right answer among `count` - 1 wrong answers of its kind.

        If the collection has fewer answers, there are fewer options.
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
    """Return the index of the right answer in the options of a question."""
    wanted = normalized(question.answer)
    return next(place for place, option in enumerate(options) if normalized(option) == wanted)


def _kinds(question: Question) -> Iterator[str]:
    """Yield the kinds of a question, narrowest first; the last kind includes all questions."""
    words = [word.lower() for word in _WORD.findall(question.question)]
    if question.kind is not None:
        yield f"{question.kind} {' '.join(words[:2])}"
        yield f"{question.kind}"
    yield f": {' '.join(words[:2])}"
    yield f": {' '.join(words[:1])}"
    yield ":"
