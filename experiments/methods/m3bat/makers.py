"""Multi-modal data with a shift whose truth is known, as skada's makers give for single-modal data.

A hidden state u causes two modalities. The steady one is noisy and the same in both domains. The drifting one
is precise, but the target's device measures it with another offset and gain, or turned. A source model relies
on the drifting one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paramcast.methods.m3bat.domains import Task

_STATES = 3
_MOTIONS = 6
_RATE = 50.0  # samples a second


@dataclass(frozen=True)
class Shifted:
    """A made set.

    Attributes:
        X: (N, F) float64, or windows (N, T, C).
        y: (N,) the truth, also of the target rows: float64, or classes from 0 on.
        sample_domain: (N,) 1 for source, -2 for target.
        modalities: 'steady' and 'drifting' -> columns, or channels.
    """

    X: np.ndarray
    y: np.ndarray
    sample_domain: np.ndarray
    modalities: dict[str, list[int]]


def make_shifted(
    rows: int = 400,
    columns: int = 8,
    offset: float = 1.5,
    gain: float = 1.5,
    angle: float = 0.0,
    task: Task = "regression",
    seed: int = 0,
) -> Shifted:
    """Draw `rows` source and `rows` target rows.

    Args:
        rows: Number of rows of each domain.
        columns: Number of columns of each modality.
        offset: Added to the drifting modality in the target, in standard deviations; 0 for none.
        gain: Factor of the drifting modality in the target; 1 for none.
        angle: Degrees by which each pair of neighboring columns of the drifting modality is turned in the
            target, like the axes of a sensor that is worn in another way; 0 for none.
        task: y = u_1 + sin(2 u_2) / 2 + 0.1 noise, or whether that is above 0.
        seed: Seed of all draws.
    """
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(2 * rows, _STATES))
    target = np.repeat([False, True], rows)
    value = state[:, 0] + 0.5 * np.sin(2 * state[:, 1]) + 0.1 * rng.normal(size=2 * rows)
    steady = _measure(state, columns, 1.0, rng)
    drifting = _measure(state, columns, 0.1, rng)
    direction = rng.choice([-1.0, 1.0], size=columns)
    drifting[target] = gain * _turned(drifting[target], angle) + offset * direction
    return Shifted(
        X=np.concatenate([steady, drifting], axis=1),
        y=value if task == "regression" else (value > 0).astype(np.int64),
        sample_domain=np.where(target, -2, 1),
        modalities={"steady": list(range(columns)), "drifting": list(range(columns, 2 * columns))},
    )


def make_shifted_windows(
    rows: int = 400,
    samples: int = 100,
    offset: float = 1.0,
    gain: float = 1.5,
    angle: float = 0.0,
    seed: int = 0,
) -> Shifted:
    """Draw raw windows of six motions, as a gyroscope (steady) and an accelerometer (drifting) measure them.

    A motion has a posture, a frequency, and the directions of its movements and turns. Each window has a
    random phase, strength, tempo and way of wearing.

    Args:
        rows: Number of rows of each domain.
        samples: T, at 50 a second.
        offset: Added to the accelerometer in the target, in units of gravity; 0 for none.
        gain: Factor of the accelerometer in the target; 1 for none.
        angle: Degrees by which the accelerometer is turned about its third axis in the target; 0 for none.
        seed: Seed of all draws.
    """
    rng = np.random.default_rng(seed)
    target = np.repeat([False, True], rows)
    count = 2 * rows
    y = rng.integers(_MOTIONS, size=count)
    frequency = np.linspace(0.6, 2.4, _MOTIONS)[rng.permutation(_MOTIONS)]
    posture, moving, turning = (_unit(rng.normal(size=(_MOTIONS, 3))) for _ in range(3))
    tempo = frequency[y] * np.exp(0.15 * rng.normal(size=count))
    vigour = 0.6 * np.exp(0.4 * rng.normal(size=count))[:, None, None]
    turns = rng.uniform(size=(count, 1)) + tempo[:, None] * np.arange(samples) / _RATE
    phase = 2 * np.pi * turns[..., None]
    worn = _unit(posture[y] + 0.3 * rng.normal(size=(count, 3)))[:, None]
    drifting = worn + vigour * np.sin(phase) * moving[y][:, None]
    drifting += 0.05 * rng.normal(size=drifting.shape)
    steady = vigour * np.cos(phase) * turning[y][:, None]
    steady += 0.6 * rng.normal(size=steady.shape)
    drifting[target] = gain * _turned(drifting[target], angle) + offset * _unit(rng.normal(size=3))
    return Shifted(
        X=np.concatenate([steady, drifting], axis=2),
        y=y,
        sample_domain=np.where(target, -2, 1),
        modalities={"steady": [0, 1, 2], "drifting": [3, 4, 5]},
    )


def _measure(state: np.ndarray, columns: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Measure (N, S) states -> (N, columns) by a random linear sensor of unit variance before its noise."""
    mixing = rng.normal(size=(_STATES, columns))
    mixing /= np.linalg.norm(mixing, axis=0)
    measured: np.ndarray = state @ mixing + noise * rng.normal(size=(len(state), columns))
    return measured


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors (..., 3) to length 1."""
    made: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return made


def _turned(measured: np.ndarray, angle: float) -> np.ndarray:
    """Turn columns (0, 1), (2, 3), ... of (..., C) in their plane; an odd last column stays."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = measured.copy()
    even = measured.shape[-1] - measured.shape[-1] % 2
    first, second = measured[..., 0:even:2], measured[..., 1:even:2]
    turned[..., 0:even:2] = cosine * first - sine * second
    turned[..., 1:even:2] = sine * first + cosine * second
    return turned
