"""Seeds and random generators that are the same in every process and on every platform."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_from(*parts: object) -> int:
    """Compute a 64-bit seed from the text of `parts`; unlike `hash()`, it is the same in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator_for(*parts: object) -> np.random.Generator:
    """Make a numpy generator for the purpose that `parts` name, such as `(seed, "test", 3)`."""
    return np.random.Generator(np.random.SFC64(seed_from(*parts)))
