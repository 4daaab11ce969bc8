"""Questions with their answers, and captions, made from a story and its events.

Answers are single words in base form ('fall', 'lantern', 'two', 'yes').
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from paramcast.video.world.events import Event
from paramcast.video.world.lore import COLOURS, CREATURES, LORE, PLAIN_LOOKS, SCENES
from paramcast.video.world.physics import Actor, Story

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
_STILL = 6.0  # pixels: an actor with a shorter path does not count as moving
_PREPOSITION = {"beach": "on", "camp": "at"}
_THIRD = {"fly": "flies"}
_ING = {"hit": "hitting", "stop": "stopping", "slide": "sliding", "bounce": "bouncing", "leave": "leaving"}
_PLACES = ("where does it happen?", "what place is shown?", "where is this video made?")
_QUOTA = {"identity": 5, "colour": 2, "count": 1, "action": 1, "order": 1, "exists": 1, "scene": 1}
_MOST = 10


@dataclass(frozen=True)
class Asked:
    """Question with its answer and its kind: identity, colour, count, action, order, exists or scene."""

    kind: str
    question: str
    answer: str


def ask(rng: np.random.Generator, story: Story, events: list[Event]) -> list[Asked]:
    """Make six to ten questions about a clip, or all if there are fewer; each has one right answer."""
    candidates = [*_identities(rng, story, events), *_colours(story), *_counts(story)]
    candidates += _actions(story, events)
    candidates += [*_orders(story, events), *_existence(rng, story)]
    if rng.random() < 0.5:
        question = str(rng.choice(_PLACES))
        candidates.append(Asked("scene", question, story.scene))
    candidates = list({asked.question: asked for asked in candidates}.values())
    taken: Counter[str] = Counter()
    chosen: list[Asked] = []
    for place in rng.permutation(len(candidates)):
        candidate = candidates[place]
        if taken[candidate.kind] < _QUOTA[candidate.kind] and len(chosen) < _MOST:
            taken[candidate.kind] += 1
            chosen.append(candidate)
    return sorted(chosen, key=lambda asked: list(_QUOTA).index(asked.kind))


def caption(rng: np.random.Generator, story: Story, events: list[Event]) -> list[str]:
    """Make two sentences: the first says what happens, the second lists the visible actors."""
    shown = [actor for actor in story.actors if actor.visible.any()]
    doing = [event for event in events if event.verb not in ("appear", "stop")]
    first = _told(story, doing, rng)
    place = str(rng.choice((f" {_where(story)}", "")))
    names = [_called(actor) for actor in shown]
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    verb = "is" if len(names) == 1 else "are"
    return [first + place, f"there {verb} {listed} {_where(story)}"]


def _told(story: Story, doing: list[Event], rng: np.random.Generator) -> str:
    if not doing:
        return f"{_called(story.actors[0])} {'moves' if story.actors[0].path > _STILL else 'stands still'}"
    subject = doing[0].subject
    own = [event for event in doing if event.subject == subject][:2]
    parts = []
    for event in own:
        target = f" {_called(story.actors[event.target])}" if event.target is not None else ""
        parts.append(_THIRD.get(event.verb, event.verb + "s") + target)
    return f"{_called(story.actors[subject])} {' and then '.join(parts)}"


def _where(story: Story) -> str:
    return f"{_PREPOSITION.get(story.scene, 'in')} the {story.scene}"


def _called(actor: Actor) -> str:
    if actor.look in ("man", "woman"):
        return f"a {actor.look} in {actor.colour}"
    article = "an" if actor.colour[0] in "aeiou" else "a"
    return f"{article} {actor.colour} {actor.name}"


def _identities(rng: np.random.Generator, story: Story, events: list[Event]) -> Iterator[Asked]:
    """Yield questions for the name of an actor, by its color, its motion or its part in an event.

    The questions never mention the scene.
    """
    shown = [actor for actor in story.actors if actor.visible.any()]
    moving = [actor for actor in shown if actor.path > _STILL]
    if len(moving) == 1:
        question = str(rng.choice(("what is moving?", "what moves in the video?")))
        yield Asked("identity", question, moving[0].name)
    elif moving:
        fastest = sorted(moving, key=lambda actor: -actor.path)
        if fastest[0].path > 1.5 * fastest[1].path:
            yield Asked("identity", "what moves the most?", fastest[0].name)
    colours = Counter(actor.colour for actor in shown)
    for actor in shown:
        if colours[actor.colour] == 1:
            word = "creature" if actor.creature else "thing"
            yield Asked("identity", f"what is the {actor.colour} {word}?", actor.name)
    creatures = {actor.name for actor in shown if actor.creature}
    if len(creatures) == 1:
        yield Asked("identity", "who is there?", *creatures)
    for event in events:
        same = {story.actors[other.subject].name for other in events if other.verb == event.verb}
        if event.verb not in ("hit", "stop") and len(same) == 1:
            who = "who" if story.actors[event.subject].creature else "what"
            yield Asked("identity", f"{who} is {_ing(event.verb)}?", story.actors[event.subject].name)
        if event.target is not None:
            subject, target = story.actors[event.subject], story.actors[event.target]
            hits = {other.target for other in events if (other.verb, other.subject) == ("hit", event.subject)}
            if len(hits) == 1 and _unique(story, subject):
                yield Asked("identity", f"what does the {subject.colour} one hit?", target.name)


def _ing(verb: str) -> str:
    return _ING.get(verb, verb + "ing")


def _unique(story: Story, actor: Actor) -> bool:
    """Check whether no other actor has the color of this actor."""
    return sum(other.colour == actor.colour for other in story.actors) == 1


def _single(story: Story) -> Iterator[Actor]:
    """Return the visible actors whose name no other actor has."""
    names = Counter(actor.name for actor in story.actors)
    return (actor for actor in story.actors if names[actor.name] == 1 and actor.visible.any())


def _colours(story: Story) -> Iterator[Asked]:
    for actor in _single(story):
        if actor.look in ("man", "woman"):
            yield Asked("colour", f"what colour does the {actor.name} wear?", actor.colour)
        else:
            yield Asked("colour", f"what colour is the {actor.name}?", actor.colour)
    moving = [actor for actor in story.actors if actor.path > _STILL and actor.visible.any()]
    if len(moving) == 1:
        yield Asked("colour", "what colour is the one that moves?", moving[0].colour)


def _counts(story: Story) -> Iterator[Asked]:
    shown = [actor for actor in story.actors if actor.visible.any()]
    things, creatures = (sum(actor.creature == alive for actor in shown) for alive in (False, True))
    yield Asked("count", "how many things are in the video?", NUMBERS[things])
    yield Asked("count", "how many creatures are in the video?", NUMBERS[creatures])
    yield Asked("count", "how many of them move?", NUMBERS[sum(actor.path > _STILL for actor in shown)])


def _actions(story: Story, events: list[Event]) -> Iterator[Asked]:
    for actor in _single(story):
        verbs = [event.verb for event in events if story.actors[event.subject] is actor]
        doing = [verb for verb in verbs if verb not in ("appear", "leave", "stop", "hit")]
        if doing:
            first = " first" if len(doing) > 1 else ""
            yield Asked("action", f"what does the {actor.name} do{first}?", doing[0])
            if _unique(story, actor):
                yield Asked("action", f"what does the {actor.colour} one do{first}?", doing[0])


def _orders(story: Story, events: list[Event]) -> Iterator[Asked]:
    """Yield questions for the next and the previous action of an actor, at least two frames apart."""
    for actor in _single(story):
        own = [event for event in events if story.actors[event.subject] is actor and event.verb != "appear"]
        for earlier, later in pairwise(own):
            if later.frame - earlier.frame >= 2 and earlier.verb != later.verb:
                first, second = (_THIRD.get(event.verb, event.verb + "s") for event in (earlier, later))
                yield Asked("order", f"what does the {actor.name} do after it {first}?", later.verb)
                yield Asked("order", f"what does the {actor.name} do before it {second}?", earlier.verb)


def _existence(rng: np.random.Generator, story: Story) -> Iterator[Asked]:
    """Yield two questions for the presence of a name and a color; yes and no are equally likely."""
    present = [actor for actor in story.actors if actor.visible.any()]
    names = {actor.name for actor in story.actors}
    if rng.random() < 0.5:
        actor = present[rng.integers(len(present))]
        name, answer = actor.name, "yes"
    else:
        scene = story.scene if rng.random() < 0.6 else str(rng.choice(SCENES))
        absent = sorted({*LORE[scene].names, *PLAIN_LOOKS, *CREATURES} - names)
        name, answer = absent[rng.integers(len(absent))], "no"
    yield Asked("exists", f"is there a {name}?", answer)
    colours = {actor.colour for actor in story.actors}
    if rng.random() < 0.5:
        yield Asked("exists", f"is there something {present[0].colour}?", "yes")
    else:
        absent = sorted(set(COLOURS) - colours)
        yield Asked("exists", f"is there something {absent[rng.integers(len(absent))]}?", "no")
