"""Names beside the points of a plot, where there is room for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CHARACTER, LINE = 7.0, 13.0
"""Width of a character (of bold text of 12 pixels, at most about this), and height of a line, in pixels."""

_GAP, _RADIUS, _STEPS = 8.0, 5.0, 24
_FAR = 9.0  # from this distance on, a line leads from the name to its point


@dataclass(frozen=True)
class Label:
    """A name and its place in pixels.

    Attributes:
        words: The name.
        x, y: Start or end of its line of text, and the height of its middle.
        anchor: 'start' or 'end'.
        apart: Whether it is so far from its point that a line has to lead there.
    """

    words: str
    x: float
    y: float
    anchor: str
    apart: bool


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Check whether two boxes overlap."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: Box) -> bool:
        """Check whether the other box is inside this one."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


def place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str], area: Box
) -> list[Label | None]:
    """Put each name as near to its point as the other names allow; the first names choose first.

    Args:
        points: (x, y) in pixels.
        names: One for each point.
        area: Area of the names.

    Returns:
        One label for each name; None for a name without room.
    """
    taken = [Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in points]
    found: list[Label | None] = []
    for (x, y), name in zip(points, names, strict=True):
        label = next((one for one in _candidates(x, y, name) if _free(_box(one), area, taken)), None)
        if label:
            taken.append(_box(label))
        found.append(label)
    return found


def _candidates(x: float, y: float, name: str) -> Iterator[Label]:
    """Yield places from the nearest to the furthest, then with more room between point and name."""
    for far in (1.0, 3.0, 7.0, 12.0):
        for step in range(_STEPS):
            for up in (-1, 1) if step else (1,):
                for side, anchor in ((1, "start"), (-1, "end")):
                    down = up * step * LINE / 2
                    yield Label(name, x + side * far * _GAP, y + down, anchor, abs(down) > _FAR or far > 1)


def _box(label: Label) -> Box:
    width = CHARACTER * len(label.words)
    left = label.x if label.anchor == "start" else label.x - width
    return Box(left, label.y - LINE / 2, left + width, label.y + LINE / 2)


def _free(box: Box, area: Box, taken: Sequence[Box]) -> bool:
    return area.holds(box) and not any(box.meets(other) for other in taken)
