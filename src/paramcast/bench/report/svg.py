"""Inline SVG with colors from the page's style sheet, so that a chart follows light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

LINE_HEIGHT = 15.0
"""Smallest distance of two labels in pixels."""


@dataclass
class Chart:
    """Plot area with scales, to which shapes are added.

    Attributes:
        width, height: Size of the whole picture in pixels; text is 12 pixels high at this size.
        x, y: Values at the edges of the plot area.
        left, right, top, bottom: Margins in pixels.
    """

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    left: int = 44
    right: int = 14
    top: int = 12
    bottom: int = 40
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Compute the place of a value in the picture."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        inner = self.width - self.left - self.right, self.height - self.top - self.bottom
        return self.left + across * inner[0], self.top + (1 - up) * inner[1]

    def path(self, points: Iterable[tuple[float, float]], name: str, closed: bool = False) -> None:
        """Add a line through values, or the area that it encloses."""
        steps = "L".join("{:.1f} {:.1f}".format(*self.at(*point)) for point in points)
        self.parts.append(f'<path class="{name}" d="M{steps}{"Z" if closed else ""}"/>')

    def dot(self, x: float, y: float, name: str, title: str, radius: float = 4) -> None:
        """Add a point that shows `title` under the mouse pointer."""
        cx, cy = self.at(x, y)
        circle = f'<circle class="{name}" cx="{cx:.1f}" cy="{cy:.1f}" r="{radius}">'
        self.parts.append(f"{circle}<title>{escape(title)}</title></circle>")

    def bar(self, x: float, width: float, y: float, name: str, title: str) -> None:
        """Add a bar from 0 to `y`, around `x`."""
        (left, end), (right, zero) = self.at(x - width / 2, y), self.at(x + width / 2, 0)
        height = max(abs(zero - end), 1)  # a bar of 0 stays visible
        self.parts.append(
            f'<rect class="{name}" x="{left:.1f}" y="{min(zero, end):.1f}" width="{right - left:.1f}" '
            f'height="{height:.1f}"><title>{escape(title)}</title></rect>'
        )

    def text(self, x: float, y: float, words: str, anchor: str = "start", name: str = "label") -> None:
        """Add words at a place in pixels."""
        self.parts.append(
            f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def y_axis(self, title: str) -> None:
        """Add grid lines with their values, and the title of the axis above them."""
        for tick in ticks(*self.y):
            self.path([(self.x[0], tick), (self.x[1], tick)], "zero" if tick == 0 else "grid")
            self.text(self.left - 8, self.at(0, tick)[1] + 4, f"{tick:g}", "end", "tick")
        self.text(4, 11, title, name="tick")

    def x_axis(self, marks: Sequence[tuple[float, str]], title: str) -> None:
        """Add values below the plot area."""
        base = self.height - self.bottom
        for value, words in marks:
            self.text(self.at(value, 0)[0], base + 17, words, "middle", "tick")
        self.text((self.left + self.width - self.right) / 2, base + 34, title, "middle", "tick")

    def end_labels(self, labels: Sequence[tuple[float, str, str]]) -> None:
        """Add names of lines at their right ends: (value, words, class), moved apart where they overlap."""
        order = sorted(labels, key=lambda label: -label[0])
        places = spread(
            [self.at(0, value)[1] for value, _, _ in order], LINE_HEIGHT, self.height - self.bottom
        )
        for place, (_, words, name) in zip(places, order, strict=True):
            self.text(self.width - self.right + 10, place + 4, words, name=f"end {name}")

    def svg(self, about: str) -> str:
        """Return the picture; screen readers read `about`."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(about)}">'
            f"{''.join(self.parts)}</svg>"
        )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Choose round values in [low, high], about `about` of them."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def room(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    """Compute the range of `values` with a margin around it."""
    values = list(values)
    low, high = min(values), max(values)
    spare = max((high - low) * share, 0.5)
    return low - spare, high + spare


def spread(places: Sequence[float], gap: float, end: float) -> list[float]:
    """Move ascending places until they are at least `gap` apart; none is beyond `end`."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    limit = end
    for index in range(len(moved) - 1, -1, -1):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - gap
    return moved
