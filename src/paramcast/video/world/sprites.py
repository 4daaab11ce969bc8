"""Draw things and creatures from parts; each part has a color and a relief that is lit.

A sprite is drawn once for each clip, at twice its size, as color, coverage and surface normals. In every
frame it is rotated and lit again, so that the bright side of a rolling ball stays on top.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from paramcast.video.world.lore import COLOURS
from paramcast.video.world.textures import RGB, fractal

SCALE = 2
"""Sprite pixels per frame pixel, in each direction."""

Point = tuple[float, float]
_DARK: RGB = (0.13, 0.12, 0.13)
_SKIN: RGB = (0.87, 0.66, 0.52)
_METAL: RGB = (0.66, 0.68, 0.71)


def body_colour(rng: np.random.Generator, name: str) -> RGB:
    """Draw a shade of a named color: near enough to have this name, and sometimes ambiguous."""
    hue, saturation, value = colorsys.rgb_to_hsv(*COLOURS[name])
    hue += rng.normal(0.0, 0.022)
    saturation = min(1.0, max(0.0, saturation * rng.uniform(0.72, 1.1)))
    value = min(1.0, max(0.06, value * rng.uniform(0.72, 1.12)))
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


class Sprite:
    """A canvas in units of the actor's size, with the origin in its center, x to the right, y down.

    Attributes:
        paint: (N, N, 4) float32, RGB multiplied by coverage, and coverage.
        normals: (N, N, 3) float32, unit vectors towards the viewer (z), multiplied by coverage.
    """

    def __init__(self, size: float, reach: float) -> None:
        self.unit = size * SCALE
        self.middle = math.ceil(reach * self.unit) + 3
        side = 2 * self.middle + 1
        self.paint = np.zeros((side, side, 4), np.float32)
        self.normals = np.zeros((side, side, 3), np.float32)

    def disc(self, x: float, y: float, radius: float, colour: RGB, round_: float = 1.0) -> None:
        """Draw a disc; `round_` is the width of its rounded rim as a share of the radius."""
        self.ellipse(x, y, radius, radius, 0.0, colour, round_)

    def ellipse(
        self, x: float, y: float, wide: float, high: float, turn: float, colour: RGB, round_: float = 1.0
    ) -> None:
        """Draw an ellipse with half axes `wide` and `high`, rotated by `turn` degrees."""
        mask = self._mask()
        axes = max(1, round(wide * self.unit)), max(1, round(high * self.unit))
        cv2.ellipse(mask, self._pixel((x, y)), axes, turn, 0, 360, 255, -1, cv2.LINE_AA)
        self._lay(mask, colour, round_ * min(wide, high))

    def polygon(self, points: Sequence[Point], colour: RGB, round_: float = 0.15) -> None:
        """Draw a polygon with a rim that is rounded over `round_` units."""
        mask = self._mask()
        corners = np.array([self._pixel(point, 4) for point in points], np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, 4)
        self._lay(mask, colour, round_)

    def box(self, x: float, y: float, wide: float, high: float, colour: RGB, round_: float = 0.12) -> None:
        """Draw an upright rectangle with center (x, y) and half sides `wide` and `high`."""
        left, right, top, bottom = x - wide, x + wide, y - high, y + high
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour, round_)

    def stroke(self, points: Sequence[Point], width: float, colour: RGB) -> None:
        """Draw a round line of `width` units through the points."""
        mask = self._mask()
        line = np.array([self._pixel(point) for point in points], np.int32)
        cv2.polylines(mask, [line], False, 255, max(1, round(width * self.unit)), cv2.LINE_AA)
        self._lay(mask, colour, width / 2)

    def spot(self, x: float, y: float, radius: float) -> None:
        """Darken the paint in a disc; the relief stays."""
        mask = self._mask()
        cv2.circle(mask, self._pixel((x, y)), round(radius * self.unit), 255, -1, cv2.LINE_AA)
        self.paint[..., :3] *= 1.0 - 0.23 * mask[..., None].astype(np.float32) / 255.0

    def tube(self, inner: float, colour: RGB) -> None:
        """Draw a ring from radius `inner` to 1."""
        mask = self._mask()
        width = round((1 - inner) * self.unit)
        cv2.circle(mask, self._pixel((0, 0)), round((1 + inner) / 2 * self.unit), 255, width, cv2.LINE_AA)
        self._lay(mask, colour, (1 - inner) / 2)

    def grain(self, rng: np.random.Generator, depth: float = 0.10) -> None:
        """Make the colors uneven, as in paint and fur."""
        side = self.paint.shape[0]
        self.paint[..., :3] *= 1.0 + depth * np.clip(fractal(rng, side, side, (6, 6), 3), -1, 1)[..., None]

    def _mask(self) -> np.ndarray:
        return np.zeros(self.paint.shape[:2], np.uint8)

    def _pixel(self, point: Point, shift: int = 0) -> tuple[int, int]:
        x, y = (round((self.middle + part * self.unit) * 2**shift) for part in point)
        return x, y

    def _lay(self, mask: np.ndarray, colour: RGB, rim: float) -> None:
        """Draw a part over the existing parts; its relief rises as a quarter circle over `rim` units."""
        left, top, wide, high = cv2.boundingRect(mask)
        inside = slice(max(0, top - 4), top + high + 4), slice(max(0, left - 4), left + wide + 4)
        mask = mask[inside]
        cover = mask[..., None].astype(np.float32) / 255.0
        width = max(1.0, rim * self.unit)
        inwards = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5)
        rise = np.sqrt(1.0 - (1.0 - np.clip(inwards / width, 0.0, 1.0)) ** 2) * width
        rise = cv2.GaussianBlur(rise, (0, 0), 1.2)
        slope_y, slope_x = np.gradient(rise)
        normal = np.dstack([-slope_x, -slope_y, np.ones_like(rise)])
        normal /= np.linalg.norm(normal, axis=2, keepdims=True)
        self.paint[inside] = self.paint[inside] * (1.0 - cover) + np.array((*colour, 1.0), np.float32) * cover
        self.normals[inside] = self.normals[inside] * (1.0 - cover) + normal * cover


def draw(rng: np.random.Generator, look: str, size: float, colour: RGB, facing: int) -> tuple[Sprite, ...]:
    """Draw the poses of an actor: one for a thing, two for the stride of a creature.

    Args:
        rng: Generator for small differences.
        look: One of the looks or creatures of `lore`.
        size: Size of the actor in frame pixels.
        colour: Color of the body, RGB in [0, 1].
        facing: -1 for left, 1 for right.
    """
    poses = (0.0,) if look in _THINGS else (-1.0, 1.0)
    state = int(rng.integers(2**31))
    sprites = []
    for stride in poses:
        sprite = Sprite(size, 1.95)
        if look in _THINGS:
            _THINGS[look](sprite, colour)
        else:
            _CREATURES[look](sprite, colour, stride)
        sprite.grain(np.random.Generator(np.random.SFC64(state)))  # the same fur in both poses
        if facing < 0:
            sprite.paint = np.ascontiguousarray(sprite.paint[:, ::-1])
            sprite.normals = np.ascontiguousarray(sprite.normals[:, ::-1] * np.array((-1, 1, 1), np.float32))
        sprites.append(sprite)
    return tuple(sprites)


def _tone(colour: RGB, share: float) -> RGB:
    """Make a color darker by a `share` below 1, or lighter by a `share` above 1."""
    red, green, blue = (min(1.0, part * share + max(0.0, share - 1.0) * 0.15) for part in colour)
    return red, green, blue


def _sphere(s: Sprite, c: RGB) -> None:
    s.disc(0, 0, 1, c)
    for x, y in ((0.45, 0.2), (-0.3, -0.45), (-0.2, 0.5)):  # spots that show the rotation
        s.spot(x, y, 0.2)


def _box(s: Sprite, c: RGB) -> None:
    s.box(0, 0, 0.9, 0.9, c, 0.14)
    s.box(0, 0, 0.62, 0.62, _tone(c, 0.86), 0.05)


def _ring(s: Sprite, c: RGB) -> None:
    s.tube(0.45, c)
    for turn in range(4):
        x, y = math.cos(turn * math.pi / 2) * 0.72, math.sin(turn * math.pi / 2) * 0.72
        s.spot(x, y, 0.16)


def _bar(s: Sprite, c: RGB) -> None:
    s.box(0, 0, 1.5, 0.32, c, 0.32)
    s.box(1.12, 0, 0.1, 0.32, _tone(c, 0.7), 0.1)


def _cone(s: Sprite, c: RGB) -> None:
    s.polygon([(-0.9, 1.0), (0.9, 1.0), (0.12, -1.0), (-0.12, -1.0)], c, 0.5)
    s.polygon([(-0.55, 0.25), (0.55, 0.25), (0.42, -0.12), (-0.42, -0.12)], _tone(c, 1.25), 0.3)


def _car(s: Sprite, c: RGB) -> None:
    s.polygon([(-0.8, -0.1), (-0.5, -0.72), (0.45, -0.72), (0.85, -0.1)], _tone(c, 0.92))
    s.polygon([(-0.62, -0.12), (-0.4, -0.6), (-0.02, -0.6), (-0.02, -0.12)], (0.62, 0.76, 0.84), 0.05)
    s.polygon([(0.08, -0.12), (0.08, -0.6), (0.38, -0.6), (0.65, -0.12)], (0.62, 0.76, 0.84), 0.05)
    s.polygon([(-1.5, -0.1), (1.35, -0.15), (1.5, 0.1), (1.5, 0.48), (-1.5, 0.48)], c, 0.2)
    s.disc(1.4, 0.08, 0.1, (0.98, 0.93, 0.65))
    for x in (-0.85, 0.85):
        s.disc(x, 0.42, 0.33, _DARK)
        s.disc(x, 0.42, 0.15, _METAL)


def _bottle(s: Sprite, c: RGB) -> None:
    half = [(0.18, -1.2), (0.18, -0.62), (0.5, -0.2), (0.5, 1.3)]
    s.polygon([*half, *((-x, y) for x, y in reversed(half))], c, 0.45)
    s.box(0, -1.2, 0.22, 0.1, _tone(c, 0.55), 0.06)
    s.box(0, 0.5, 0.5, 0.32, (0.93, 0.91, 0.85), 0.4)


def _cup(s: Sprite, c: RGB) -> None:
    s.stroke([(0.62, -0.4), (1.0, -0.3), (1.0, 0.25), (0.55, 0.4)], 0.17, c)
    s.polygon([(-0.75, -0.8), (0.75, -0.8), (0.58, 0.8), (-0.58, 0.8)], c, 0.5)
    s.ellipse(0, -0.78, 0.74, 0.14, 0, _tone(c, 0.45), 0.3)


def _duck(s: Sprite, c: RGB) -> None:
    s.ellipse(-0.1, 0.35, 1.0, 0.6, 0, c)
    s.polygon([(-1.05, 0.3), (-1.2, -0.15), (-0.6, 0.1)], c)
    s.disc(0.5, -0.4, 0.5, c)
    s.polygon([(0.9, -0.5), (1.35, -0.32), (0.9, -0.2)], (0.93, 0.50, 0.12))
    s.disc(0.62, -0.52, 0.09, _DARK)
    s.ellipse(-0.25, 0.3, 0.5, 0.28, 15, _tone(c, 0.85))


def _book(s: Sprite, c: RGB) -> None:
    s.box(0.04, 0, 1.02, 0.3, (0.94, 0.91, 0.82), 0.06)
    s.box(0, -0.34, 1.1, 0.09, c, 0.06)
    s.box(0, 0.34, 1.1, 0.09, c, 0.06)
    s.box(-1.02, 0, 0.09, 0.42, _tone(c, 0.85), 0.06)


def _four_legs(s: Sprite, c: RGB, stride: float, foot: float) -> None:
    for x, swing in ((-0.7, 1), (-0.5, -1), (0.45, -1), (0.65, 1)):
        s.stroke([(x, 0.3), (x + 0.16 * swing * stride, foot)], 0.2, _tone(c, 0.85 if swing > 0 else 0.7))


def _cat(s: Sprite, c: RGB, stride: float) -> None:
    _four_legs(s, c, stride, 0.9)
    s.stroke([(-0.85, 0.1), (-1.2, -0.25), (-1.15, -0.7), (-0.95, -0.85)], 0.16, c)
    s.ellipse(-0.1, 0.2, 0.9, 0.4, 0, c)
    for x in (0.5, 1.0):
        s.polygon([(x - 0.2, -0.5), (x, -1.0), (x + 0.2, -0.5)], c, 0.1)
    s.disc(0.75, -0.28, 0.45, c)
    _face(s, 0.85, -0.33, 0.17)


def _dog(s: Sprite, c: RGB, stride: float) -> None:
    _four_legs(s, c, stride, 1.0)
    s.stroke([(-0.95, -0.05), (-1.3, -0.5)], 0.18, c)
    s.ellipse(-0.1, 0.12, 1.0, 0.45, 0, c)
    s.ellipse(1.18, -0.32, 0.36, 0.22, 5, c)
    s.disc(0.82, -0.5, 0.42, c)
    s.ellipse(0.55, -0.42, 0.17, 0.4, 15, _tone(c, 0.62))
    s.disc(1.5, -0.38, 0.1, _DARK)
    s.disc(0.98, -0.6, 0.08, _DARK)


def _bird(s: Sprite, c: RGB, stride: float) -> None:
    s.stroke([(-0.05, 0.4), (-0.1, 0.78)], 0.08, (0.85, 0.5, 0.15))
    s.stroke([(0.2, 0.4), (0.2, 0.78)], 0.08, (0.85, 0.5, 0.15))
    s.polygon([(-0.7, 0.0), (-1.3, -0.1), (-1.25, 0.28), (-0.6, 0.3)], _tone(c, 0.8))
    s.ellipse(0, 0.1, 0.82, 0.45, -12, c)
    s.disc(0.7, -0.32, 0.36, c)
    s.polygon([(0.98, -0.42), (1.42, -0.26), (0.98, -0.16)], (0.93, 0.62, 0.15), 0.1)
    s.disc(0.8, -0.4, 0.08, _DARK)
    tip = -1.0 if stride > 0 else 0.75  # the wing is up or down
    s.polygon([(-0.45, 0.05), (0.35, 0.0), (-0.1, tip), (-0.6, tip * 0.9)], _tone(c, 0.78), 0.12)


def _robot(s: Sprite, c: RGB, stride: float) -> None:
    for x, swing in ((-0.35, 1), (0.35, -1)):
        s.stroke([(x, 0.7), (x + 0.12 * swing * stride, 1.3)], 0.26, _METAL)
        s.box(x + 0.12 * swing * stride + 0.05, 1.35, 0.27, 0.1, _DARK, 0.08)
        s.stroke([(x * 2.1, -0.1), (x * 2.4 + 0.12 * swing * stride, 0.55)], 0.2, _METAL)
    s.box(0, 0.2, 0.62, 0.6, c, 0.16)
    s.box(0, 0.2, 0.32, 0.22, (0.75, 0.88, 0.92), 0.05)
    s.stroke([(0, -1.1), (0, -1.45)], 0.08, _METAL)
    s.disc(0, -1.45, 0.12, (0.9, 0.2, 0.2))
    s.box(0, -0.82, 0.5, 0.36, c, 0.14)
    for x in (-0.12, 0.28):
        s.disc(x, -0.85, 0.13, (0.98, 0.95, 0.6))


def _man(s: Sprite, c: RGB, stride: float) -> None:
    for swing in (1, -1):
        s.stroke([(0, 0.5), (0.28 * swing * stride, 1.65)], 0.3, (0.22, 0.25, 0.36))
    s.stroke([(0, -0.5), (-0.38 * stride, 0.3)], 0.2, _tone(c, 0.8))
    s.polygon([(-0.42, -0.75), (0.42, -0.75), (0.36, 0.6), (-0.36, 0.6)], c, 0.3)
    s.stroke([(0.05, -0.5), (0.42 * stride, 0.25)], 0.2, _tone(c, 0.9))
    s.disc(0.05, -1.2, 0.42, _SKIN)
    s.ellipse(-0.05, -1.45, 0.42, 0.24, -8, (0.24, 0.16, 0.1))
    _face(s, 0.2, -1.2, 0.13)


def _woman(s: Sprite, c: RGB, stride: float) -> None:
    for swing in (1, -1):
        s.stroke([(0, 0.7), (0.22 * swing * stride, 1.6)], 0.2, _SKIN)
    s.ellipse(-0.15, -1.0, 0.42, 0.62, 6, (0.42, 0.22, 0.1))
    s.polygon([(-0.3, -0.75), (0.3, -0.75), (0.3, -0.1), (0.66, 0.95), (-0.66, 0.95), (-0.3, -0.1)], c, 0.25)
    s.stroke([(0.0, -0.5), (0.42 * stride, 0.1)], 0.15, _SKIN)
    s.disc(0.06, -1.15, 0.4, _SKIN)
    s.ellipse(-0.06, -1.42, 0.4, 0.22, -12, (0.42, 0.22, 0.1))
    _face(s, 0.2, -1.15, 0.13)


def _face(s: Sprite, x: float, y: float, apart: float) -> None:
    """Draw two eyes and a mouth."""
    for side in (-1, 1):
        s.disc(x + side * apart, y, 0.07, _DARK)
    s.stroke([(x - 0.08, y + 0.22), (x + 0.1, y + 0.2)], 0.06, (0.35, 0.12, 0.12))


_THINGS: dict[str, Callable[[Sprite, RGB], None]] = {
    "sphere": _sphere, "box": _box, "ring": _ring, "bar": _bar, "cone": _cone,
    "car": _car, "bottle": _bottle, "cup": _cup, "duck": _duck, "book": _book,
}  # fmt: skip
_CREATURES: dict[str, Callable[[Sprite, RGB, float], None]] = {
    "cat": _cat, "dog": _dog, "bird": _bird, "robot": _robot, "man": _man, "woman": _woman,
}  # fmt: skip
