"""Events of a story: which actor does what, and when, derived from the positions in the physics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paramcast.video.world.lore import ROUND
from paramcast.video.world.physics import FPS, FRAMES, Actor, Story

VERBS = ("fall", "bounce", "roll", "slide", "hit", "stop", "leave", "appear", "jump", "walk", "fly")


@dataclass(frozen=True)
class Event:
    """Action of an actor.

    Attributes:
        frame: Frame in which the action starts.
        verb: One of `VERBS`.
        subject: Number of the actor that acts.
        target: Number of the actor that is hit, else None.
    """

    frame: int
    verb: str
    subject: int
    target: int | None = None


def events_of(story: Story) -> list[Event]:
    """Find all events of a story, in order; at most one of a kind for each actor (or pair of actors)."""
    found = [event for number, actor in enumerate(story.actors) for event in _own(number, actor, story)]
    for contact in story.contacts:
        if story.actors[contact.first].visible[contact.frame] and contact.speed > 25:
            found.append(Event(contact.frame, "hit", contact.first, contact.second))
    first: dict[tuple[str, int, int | None], Event] = {}
    for event in sorted(found, key=lambda event: event.frame):
        first.setdefault((event.verb, event.subject, event.target), event)
    return list(first.values())


def _own(number: int, actor: Actor, story: Story) -> list[Event]:
    """Find the events of one actor that involve no other actor."""
    seen = np.flatnonzero(actor.visible)
    if not len(seen):
        return []
    found = []
    if seen[0] > 0:
        found.append(Event(int(seen[0]), "appear", number))
    if seen[-1] < FRAMES - 1:
        found.append(Event(int(seen[-1]) + 1, "leave", number))
    moves = _flight(number, actor) if actor.creature else _motion(number, actor, story)
    found += [event for event in moves if seen[0] <= event.frame <= seen[-1]]
    speed = np.hypot(np.diff(actor.x), np.diff(actor.y)) * FPS
    moving = np.flatnonzero(speed > 10)
    if len(moving) and moving[-1] < FRAMES - 5 and seen[-1] == FRAMES - 1 and speed[-3:].max() < 5:
        found.append(Event(int(moving[-1]) + 1, "stop", number))
    return found


def _flight(number: int, actor: Actor) -> list[Event]:
    """Find the walking, flying or jumping of a creature."""
    if actor.velocity == (0.0, 0.0):
        return []
    verb = "jump" if actor.velocity[1] < 0 else "fly" if actor.start[1] < 100 else "walk"
    return [Event(int(np.flatnonzero(actor.visible)[0]), verb, number)]


def _motion(number: int, actor: Actor, story: Story) -> list[Event]:
    """Find the falling, bouncing, rolling and sliding of a thing."""
    found = []
    rise = -np.diff(actor.y)
    down = np.maximum.accumulate(actor.y[::-1])[::-1] - actor.y  # how far the actor still moves down
    airborne = actor.y + actor.half[1] < _floor(story, actor) - 6
    if (dropping := np.flatnonzero(airborne[:-1] & (rise < -3) & (down[:-1] > 18))).size:
        found.append(Event(int(dropping[0]), "fall", number))
    turns = np.flatnonzero((rise[:-1] < -2) & (rise[1:] > 2.5))
    if turns.size:
        found.append(Event(int(turns[0]) + 1, "bounce", number))
    grounded = ~airborne[:-1] & (np.abs(np.diff(actor.x)) * FPS > 12)
    runs = np.flatnonzero(grounded[:-2] & grounded[1:-1] & grounded[2:])
    if runs.size:
        found.append(Event(int(runs[0]), "roll" if actor.look in ROUND else "slide", number))
    return found


def _floor(story: Story, actor: Actor) -> np.ndarray:
    """Compute the height of the surface below the actor in each frame: (FRAMES,), in pixels from the top."""
    floor = np.full(FRAMES, story.ground)
    for x0, y0, x1, y1 in story.boards:
        above = (actor.x > min(x0, x1)) & (actor.x < max(x0, x1))
        board = y0 + (y1 - y0) * (actor.x - x0) / (x1 - x0)
        floor = np.where(above & (actor.y < board), np.minimum(floor, board), floor)
    return floor
