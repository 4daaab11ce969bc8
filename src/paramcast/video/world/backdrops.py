"""Backdrops behind the actors: eight scenes, and plain backdrops that all scenes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from paramcast.video.world import textures as tx
from paramcast.video.world.physics import SIZE

_UP = 2  # props are drawn at twice the size, for smooth edges

Prop = Callable[[np.random.Generator, np.ndarray, int], None]


@dataclass(frozen=True)
class Place:
    """Wall and floor of a scene, the color of its light and the props on the wall."""

    wall: tx.Texture
    floor: tx.Texture
    light: tx.RGB
    props: tuple[Prop, ...] = ()


def backdrop(
    rng: np.random.Generator, scene: str, plain: bool, ground: float
) -> tuple[np.ndarray, np.ndarray]:
    """Paint the picture behind the actors.

    Args:
        rng: Generator for the details.
        scene: One of `SCENES`.
        plain: Paint one of the shared backdrops instead.
        ground: Height at which the actors stand, in pixels from the top.

    Returns:
        (SIZE, SIZE, 3) float32 RGB in [0, 1], and (3,) float32, the color of the light on the actors.
    """
    place = _PLAIN[rng.integers(len(_PLAIN))] if plain else _SCENES[scene]
    horizon = int(ground - rng.uniform(14, 30))
    picture = place.wall(rng, SIZE, SIZE)
    if place.props:
        canvas = np.ascontiguousarray(cv2.resize(picture, None, fx=_UP, fy=_UP))
        for prop in place.props:
            prop(rng, canvas, horizon * _UP)
        picture = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.7, 2.2)))  # the wall is out of focus
    floor = tx.laid_flat(place.floor(rng, SIZE, SIZE), SIZE - horizon, SIZE)
    picture[horizon:] = floor
    crease = np.exp(-(((np.arange(SIZE, dtype=np.float32) - horizon) / 5.0) ** 2))
    picture *= (1.0 - 0.35 * crease)[:, None, None]  # less light reaches the corner of wall and floor
    light = np.array(place.light, np.float32) * np.float32(rng.uniform(0.85, 1.1))
    return np.clip(picture * light * _falloff(rng), 0.0, 1.0).astype(np.float32), light


def _falloff(rng: np.random.Generator) -> np.ndarray:
    """Make a soft pool of light, brightest at a random place of the upper half: (SIZE, SIZE, 1) float32."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    x, y = rng.uniform(0.2, 0.8), rng.uniform(0.0, 0.5)
    return np.asarray(1.12 - 0.42 * np.hypot(columns - x, rows - y), np.float32)[..., None]


def _int(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high))


def _box(canvas: np.ndarray, x: float, y: float, wide: float, high: float, colour: tx.RGB) -> None:
    """Draw a filled rectangle with a shaded rim; all lengths are canvas pixels."""
    corners = (round(x), round(y)), (round(x + wide), round(y + high))
    cv2.rectangle(canvas, *corners, colour, -1)
    dark = tuple(0.6 * part for part in colour)
    cv2.rectangle(canvas, *corners, dark, 2, cv2.LINE_AA)


def _polygon(canvas: np.ndarray, points: list[tuple[float, float]], colour: tx.RGB) -> None:
    cv2.fillPoly(canvas, [np.round(np.array(points, np.float32)).astype(np.int32)], colour, cv2.LINE_AA)


def _disc(canvas: np.ndarray, x: float, y: float, radius: float, colour: tx.RGB) -> None:
    cv2.circle(canvas, (round(x), round(y)), max(1, round(radius)), colour, -1, cv2.LINE_AA)


def _shelf(rng: np.random.Generator, canvas: np.ndarray, horizon: int) -> None:
    y = _int(rng, 60, 110)
    x = _int(rng, -60, 120)
    for jar in range(_int(rng, 3, 7)):
        high = _int(rng, 22, 44)
        red, green, blue = map(float, rng.uniform(0.35, 0.9, 3))
        _box(canvas, x + 18 + 32 * jar, y - high, _int(rng, 16, 26), high, (red, green, blue))
    _box(canvas, x, y, 230, 9, (0.55, 0.38, 0.22))


def _fence(rng: np.random.Generator, canvas: np.ndarray, horizon: int) -> None:
    top = horizon - _int(rng, 60, 100)
    _box(canvas, -5, top + 22, canvas.shape[1] + 10, 9, (0.74, 0.68, 0.58))
    for x in range(_int(rng, -20, 0), canvas.shape[1], 36):
        _polygon(
            canvas,
            [(x, horizon), (x, top + 10), (x + 10, top), (x + 20, top + 10), (x + 20, horizon)],
            (0.84, 0.79, 0.70),
        )


def _windows(rng: np.random.Generator, canvas: np.ndarray, horizon: int) -> None:
    x = _int(rng, -20, 40)
    for column in range(3):
        left = x + 118 * column
        _box(canvas, left, 34, 66, 100, (0.86, 0.85, 0.80))
        _box(canvas, left + 7, 41, 52, 86, (0.28, 0.36, 0.46) if rng.random() < 0.6 else (0.95, 0.82, 0.5))
        _box(canvas, left + 30, 41, 5, 86, (0.86, 0.85, 0.80))
    _box(canvas, -5, horizon - 14, canvas.shape[1] + 10, 14, (0.62, 0.61, 0.58))


def _sea(rng: np.random.Generator, canvas: np.ndarray, horizon: int) -> None:
    top = horizon - _int(rng, 50, 90)
    waves = tx.cloudy((0.05, 0.32, 0.50), (0.35, 0.66, 0.74), (26, 5), 4)
    canvas[top:horizon] = waves(rng, horizon - top, canvas.shape[1])
    _disc(canvas, rng.uniform(40, 280), rng.uniform(25, 70), 20, (1.0, 0.95, 0.75))
    x = rng.uniform(40, 280)
    _polygon(canvas, [(x, top - 2), (x, top - 46), (x + 30, top - 2)], (0.97, 0.96, 0.93))
    _polygon(
        canvas,
        [(x - 22, top - 2), (x + 36, top - 2), (x + 26, top + 9), (x - 14, top + 9)],
        (0.45, 0.22, 0.16),
    )


def _tools(rng: np.random.Generator, canvas: np.ndarray, horizon: int) -> None:
    for x in range(20, canvas.shape[1], 62):
        y, long = _int(rng, 30, 70), _int(rng, 50, 95)
        steel = (0.62, 0.65, 0.68)
        if rng.random() < 0.5:  # a hammer
            _box(canvas, x + 8, y, 8, long, (0.62, 0.42, 0.22))
            _box(canvas, x - 5, y - 4, 34, 15, steel)
        else:  # a wrench
            _box(canvas, x + 6, y, 9, long, steel)
            cv2.circle(canvas, (int(x + 10), int(y)), 12, steel, 7, cv2.LINE_AA)


def _bunting(rng: np.random.Generator, canvas: np.ndarray, horizon: int) -> None:
    sag, y = rng.uniform(20, 50), rng.uniform(15, 45)
    for flag in range(9):
        x = 36 * flag
        top = y + sag * (1 - ((x - 160) / 160) ** 2)
        tone = [(0.93, 0.55, 0.5), (0.98, 0.84, 0.5), (0.55, 0.75, 0.85)][flag % 3]
        _polygon(canvas, [(x, top), (x + 32, top), (x + 16, top + 36)], tone)


def _mountains(rng: np.random.Generator, canvas: np.ndarray, horizon: int) -> None:
    for _ in range(3):
        x, high, wide = rng.uniform(0, 320), rng.uniform(90, 180), rng.uniform(90, 170)
        top = horizon - high
        _polygon(canvas, [(x - wide, horizon), (x, top), (x + wide, horizon)], (0.50, 0.57, 0.68))
        _polygon(
            canvas,
            [
                (x, top),
                (x - wide * 0.3, top + high * 0.3),
                (x - 8, top + high * 0.22),
                (x + wide * 0.3, top + high * 0.3),
            ],
            (0.95, 0.97, 1.0),
        )
    _firs(rng, canvas, horizon, (0.16, 0.30, 0.27))


def _firs(rng: np.random.Generator, canvas: np.ndarray, horizon: int, tone: tx.RGB) -> None:
    for x in rng.uniform(0, canvas.shape[1], _int(rng, 4, 9)):
        high = rng.uniform(50, 110)
        for tier in range(3):
            y, wide = horizon - high * (0.35 + 0.25 * tier), high * (0.32 - 0.07 * tier)
            _polygon(
                canvas, [(x - wide, y + high * 0.35), (x, y - high * 0.1), (x + wide, y + high * 0.35)], tone
            )


def _night(rng: np.random.Generator, canvas: np.ndarray, horizon: int) -> None:
    for x, y in rng.uniform((0, 0), (canvas.shape[1], horizon * 0.8), (70, 2)):
        _disc(canvas, x, y, rng.uniform(0.6, 1.9), (0.92, 0.93, 1.0))
    x, y = rng.uniform(40, 280), rng.uniform(35, 70)
    _disc(canvas, x, y, 21, (0.98, 0.96, 0.84))
    _disc(canvas, x + 9, y - 5, 18, (0.10, 0.12, 0.27))
    _firs(rng, canvas, horizon, (0.05, 0.10, 0.12))


_SCENES: dict[str, Place] = {
    "kitchen": Place(
        tx.bricks(((0.80, 0.84, 0.82), (0.95, 0.96, 0.93)), (0.66, 0.68, 0.66), (20, 20), shifted=False),
        tx.wood((0.50, 0.30, 0.15), (0.82, 0.60, 0.36)),
        (1.06, 1.0, 0.90),
        (_shelf,),
    ),
    "garden": Place(
        tx.leaves((0.06, 0.20, 0.06), (0.40, 0.58, 0.24)),
        tx.grass((0.14, 0.32, 0.08), (0.50, 0.68, 0.26)),
        (1.02, 1.02, 0.96),
        (_fence,),
    ),
    "street": Place(
        tx.bricks(((0.42, 0.20, 0.15), (0.68, 0.40, 0.30)), (0.66, 0.62, 0.57), (8, 18)),
        tx.cloudy((0.20, 0.20, 0.22), (0.42, 0.42, 0.44), (24, 24), 3),
        (0.98, 0.99, 1.02),
        (_windows,),
    ),
    "beach": Place(
        tx.sky((0.25, 0.52, 0.86), (0.80, 0.90, 0.96)),
        tx.cloudy((0.70, 0.58, 0.40), (0.94, 0.85, 0.66), (8, 10), 6),
        (1.08, 1.04, 0.98),
        (_sea,),
    ),
    "workshop": Place(
        tx.wood((0.33, 0.24, 0.16), (0.60, 0.46, 0.31), 7),
        tx.cloudy((0.38, 0.38, 0.37), (0.62, 0.61, 0.58), (5, 5), 6),
        (0.98, 0.97, 0.90),
        (_tools,),
    ),
    "nursery": Place(
        tx.stripes((0.93, 0.84, 0.84), (0.98, 0.94, 0.88)),
        tx.weave((0.50, 0.55, 0.72), (0.76, 0.79, 0.90), 5.0),
        (1.04, 1.0, 0.98),
        (_bunting,),
    ),
    "snow": Place(
        tx.sky((0.56, 0.68, 0.84), (0.88, 0.92, 0.97), 0.4),
        tx.cloudy((0.76, 0.82, 0.92), (0.99, 1.0, 1.0), (4, 4), 5),
        (0.98, 1.0, 1.06),
        (_mountains,),
    ),
    "camp": Place(
        tx.sky((0.08, 0.09, 0.22), (0.22, 0.27, 0.48), 0.12),
        tx.grass((0.12, 0.14, 0.10), (0.40, 0.37, 0.25)),
        (0.84, 0.84, 0.95),
        (_night,),
    ),
}

_GREY_WALL = tx.cloudy((0.52, 0.52, 0.51), (0.68, 0.67, 0.66), (3, 3), 6)
_CREAM_WALL = tx.cloudy((0.74, 0.70, 0.62), (0.86, 0.83, 0.76), (2, 2), 6)
_PLAIN: tuple[Place, ...] = (
    Place(_GREY_WALL, tx.cloudy((0.46, 0.46, 0.46), (0.62, 0.62, 0.61), (4, 4), 6), (1.0, 1.0, 1.0)),
    Place(_CREAM_WALL, tx.wood((0.45, 0.33, 0.22), (0.68, 0.54, 0.38), 3), (1.02, 1.0, 0.96)),
    Place(_GREY_WALL, tx.weave((0.30, 0.32, 0.36), (0.52, 0.54, 0.58)), (0.96, 0.98, 1.0)),
    Place(_CREAM_WALL, tx.cloudy((0.66, 0.63, 0.57), (0.84, 0.81, 0.75), (4, 3), 5), (1.0, 1.0, 0.98)),
    Place(
        tx.cloudy((0.36, 0.42, 0.46), (0.54, 0.60, 0.63), (2, 4), 5),
        tx.cloudy((0.50, 0.51, 0.53), (0.72, 0.73, 0.74), (40, 2), 4),
        (0.97, 1.0, 1.02),
    ),
)
