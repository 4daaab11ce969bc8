"""From logits to an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paramcast.protocol.quantize import Float32


@dataclass(frozen=True)
class Answer:
    """The most probable answer to a question. `probability` is in 0..1."""

    text: str
    probability: float


def most_probable(logits: Float32, texts: Sequence[str]) -> Answer:
    """The text of the highest of logits (A,); `texts` are A."""
    weights = np.exp(logits - logits.max())
    best = int(logits.argmax())
    return Answer(texts[best], float(weights[best] / weights.sum()))
