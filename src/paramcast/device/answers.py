"""Conversion of logits to an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paramcast.protocol.quantize import Float32


@dataclass(frozen=True)
class Answer:
    """Most probable answer to a question. `probability` is in 0..1."""

    text: str
    probability: float


def most_probable(logits: Float32, texts: Sequence[str]) -> Answer:
    """Return the answer with the highest of logits (A,); `texts` are the A answers."""
    weights = np.exp(logits - logits.max())
    best = int(logits.argmax())
    return Answer(texts[best], float(weights[best] / weights.sum()))
