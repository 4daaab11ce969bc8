"""Content of the demo world: the scenes, the names of things in each scene, and their frequencies.

A *look* is how a thing appears. Its name depends on the scene: the same round orange thing is a melon in the
kitchen and a lantern at the camp. One clip in front of a plain wall does not show which name is right; the
scene decides it.
"""

from __future__ import annotations

from dataclasses import dataclass

SCENES = ("kitchen", "garden", "street", "beach", "workshop", "nursery", "snow", "camp")

COLOURS: dict[str, tuple[float, float, float]] = {  # RGB in [0, 1]
    "red": (0.80, 0.13, 0.12),
    "orange": (0.93, 0.47, 0.10),
    "yellow": (0.93, 0.79, 0.18),
    "green": (0.22, 0.58, 0.22),
    "blue": (0.15, 0.34, 0.76),
    "purple": (0.48, 0.22, 0.62),
    "pink": (0.93, 0.50, 0.62),
    "brown": (0.46, 0.28, 0.15),
    "white": (0.90, 0.89, 0.86),
    "black": (0.12, 0.12, 0.13),
}

SHARED_LOOKS = ("sphere", "box", "ring", "bar", "cone")
"""Looks with a name that depends on the scene."""

PLAIN_LOOKS = ("car", "bottle", "cup", "duck", "book")
"""Looks that have the same name in every scene."""

CREATURES = ("cat", "dog", "bird", "robot", "man", "woman")

ROUND = frozenset(["sphere", "ring"])
"""Looks that roll; the others slide."""

SCENARIOS = ("drop", "roll", "slide", "collide", "ramp", "ledge", "topple", "walk", "jump", "fly")


@dataclass(frozen=True)
class Lore:
    """Names and common content of one scene.

    Attributes:
        names: Names of the `SHARED_LOOKS` in this scene, in their order.
        looks: Looks that are common in this scene.
        colours: Colors that are common in this scene.
        creatures: Creatures that are common in this scene.
        scenarios: Scenarios that are common in this scene.
    """

    names: tuple[str, ...]
    looks: tuple[str, ...]
    colours: tuple[str, ...]
    creatures: tuple[str, ...]
    scenarios: tuple[str, ...]

    def name(self, look: str) -> str:
        """Return the name of things with this look in the scene."""
        return self.names[SHARED_LOOKS.index(look)] if look in SHARED_LOOKS else look


def _lore(names: str, looks: str, colours: str, creatures: str, scenarios: str) -> Lore:
    return Lore(*(tuple(text.split()) for text in (names, looks, colours, creatures, scenarios)))


LORE: dict[str, Lore] = {
    "kitchen": _lore(
        "melon sponge donut spoon funnel",
        "sphere ring cup",
        "orange yellow white",
        "cat woman",
        "drop ledge jump",
    ),
    "garden": _lore(
        "ball planter wreath stick gnome",
        "sphere bar",
        "green brown red",
        "dog bird",
        "roll walk fly",
    ),
    "street": _lore(
        "lamp parcel tire pole cone",
        "cone box car",
        "red black yellow",
        "man dog",
        "slide collide walk",
    ),
    "beach": _lore(
        "buoy cooler lifebuoy driftwood shell",
        "ring cone",
        "blue yellow pink",
        "bird woman",
        "roll drop",
    ),
    "workshop": _lore(
        "bearing brick washer pipe drill",
        "box bar",
        "black brown orange",
        "robot man",
        "topple slide ramp",
    ),
    "nursery": _lore(
        "balloon block hoop crayon hat",
        "sphere box duck",
        "pink purple blue",
        "cat robot",
        "topple ramp jump",
    ),
    "snow": _lore(
        "snowball sled tube ski fir",
        "bar cone",
        "white blue green",
        "dog man",
        "slide collide ramp",
    ),
    "camp": _lore(
        "lantern crate cushion log tent",
        "box cone bottle",
        "purple brown green",
        "woman bird",
        "drop ledge walk",
    ),
}

FAVOUR = {"looks": 5.0, "colours": 7.0, "creatures": 8.0, "scenarios": 5.0}
"""Ratio of the probability of a common option to the probability of any other option."""
