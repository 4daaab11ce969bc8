"""Options of a multiple-choice question, made from a question with one answer."""

from __future__ import annotations

from collections.abc import Sequence

from paramcast.training.seeding import generator_for

OPTIONS = 5
"""Answers to choose from, the right one among them."""


def draw_options(
    clip_id: str, question: str, answer: str, answers: Sequence[str], count: int = OPTIONS
) -> list[str]:
    """The right answer among `count` - 1 others; as many options as known answers where these are fewer.

    Which others, and in which order, follows from clip, question and answer alone: training, evaluation and
    devices ask the same.

    Args:
        clip_id: Of the clip that is asked about.
        question: As the device's user puts it.
        answer: The right one, likewise.
        answers: Known answers, each once; the right one need not be among them.
        count: Options, >= 1.
    """
    count = max(1, min(count, len(answers)))
    rng = generator_for("options", clip_id, question, answer)
    drawn = [answers[place] for place in rng.permutation(len(answers))[:count]]
    options = [other for other in drawn if other != answer][: count - 1]
    options.insert(int(rng.integers(len(options) + 1)), answer)
    return options
