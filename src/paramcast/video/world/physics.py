"""Stories of clips: actors moved by rigid-body physics, with a record of their positions and contacts.

Lengths are pixels of the frame (x to the right, y down), times are frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pymunk

from paramcast.video.world.lore import (
    COLOURS,
    CREATURES,
    FAVOUR,
    LORE,
    PLAIN_LOOKS,
    ROUND,
    SCENARIOS,
    SHARED_LOOKS,
)

SIZE = 160
FRAMES = 24
FPS = 8
_STEPS = 30  # steps of the physics per frame
_GRAVITY = 230.0  # lower than on Earth, so that a fall takes several frames
_ELASTIC = {"sphere": 0.78, "ring": 0.6, "duck": 0.45}
_HALF = {  # half width and half height, as shares of the actor's size
    "box": (0.9, 0.9), "bar": (1.5, 0.32), "cone": (0.9, 1.0), "car": (1.5, 0.75), "bottle": (0.5, 1.3),
    "cup": (0.8, 0.8), "duck": (1.05, 0.95), "book": (1.1, 0.42), "cat": (1.2, 1.0), "dog": (1.3, 1.1),
    "bird": (1.1, 0.8), "robot": (0.85, 1.45), "man": (0.65, 1.75), "woman": (0.7, 1.7),
}  # fmt: skip


@dataclass
class Actor:
    """A thing or a creature, and its position in each frame.

    Attributes:
        look: One of the looks or creatures of `lore`.
        name: Its name in the scene.
        colour: Name of its color.
        size: Its radius or half size in pixels.
        start: Center at the start, in pixels.
        velocity: Velocity at the start, in pixels per second.
        facing: -1 for left, 1 for right.
        x, y, angle: (FRAMES,) float32 each; center in pixels, angle in radians.
    """

    look: str
    name: str
    colour: str
    size: float
    start: tuple[float, float] = (0.0, 0.0)
    velocity: tuple[float, float] = (0.0, 0.0)
    facing: int = 1
    x: np.ndarray = field(default_factory=lambda: np.zeros(FRAMES, np.float32))
    y: np.ndarray = field(default_factory=lambda: np.zeros(FRAMES, np.float32))
    angle: np.ndarray = field(default_factory=lambda: np.zeros(FRAMES, np.float32))

    @property
    def creature(self) -> bool:
        """Whether the actor is a creature, which moves by itself."""
        return self.look in CREATURES

    @property
    def half(self) -> tuple[float, float]:
        """Half width and half height in pixels."""
        wide, high = _HALF.get(self.look, (1.0, 1.0))
        return wide * self.size, high * self.size

    @property
    def visible(self) -> np.ndarray:
        """Frames in which the center is within the picture: (FRAMES,) bool."""
        return (self.x > 0) & (self.x < SIZE) & (self.y > 0) & (self.y < SIZE)

    @property
    def path(self) -> float:
        """Length of the visible part of the actor's path, in pixels."""
        seen = self.visible[1:] & self.visible[:-1]
        return float((np.hypot(np.diff(self.x), np.diff(self.y)) * seen).sum())


@dataclass(frozen=True)
class Contact:
    """Collision of two actors: frame, faster actor, slower actor, and closing speed in pixels per second."""

    frame: int
    first: int
    second: int
    speed: float


@dataclass
class Story:
    """One clip before it is drawn.

    Attributes:
        scene: One of `SCENES`.
        plain: Whether the clip is a close-up in front of a backdrop that does not show the scene.
        scenario: One of `SCENARIOS`.
        ground: Height of the floor, in pixels from the top.
        boards: Static line segments (x0, y0, x1, y1): a ramp or a ledge.
        actors: The actors; the scenario is about the first of them.
        contacts: Collisions of two actors, in order.
    """

    scene: str
    plain: bool
    scenario: str
    ground: float
    boards: list[tuple[float, float, float, float]]
    actors: list[Actor]
    contacts: list[Contact]


def tell(rng: np.random.Generator, scene: str, plain: bool) -> Story:
    """Draw a scenario and actors with the frequencies of `scene`, and run the physics."""
    scenario = _choose(rng, SCENARIOS, LORE[scene].scenarios, FAVOUR["scenarios"])
    story = Story(scene, plain, scenario, float(rng.uniform(128, 140)), [], [], [])
    _SETUPS[scenario](rng, story)
    _bystanders(rng, story)
    _run(story)
    return story


def _choose(
    rng: np.random.Generator, options: tuple[str, ...], common: tuple[str, ...], favour: float
) -> str:
    weights = np.array([favour if option in common else 1.0 for option in options])
    return options[rng.choice(len(options), p=weights / weights.sum())]


def _cast(rng: np.random.Generator, story: Story, among: tuple[str, ...] | None = None) -> Actor:
    """Add an actor with a look (one of `among`, by default of any thing), a name, a color and a size."""
    lore = LORE[story.scene]
    if among is not None and set(among) <= set(CREATURES):
        look = _choose(rng, among, lore.creatures, FAVOUR["creatures"])
    else:
        look = _choose(rng, among or SHARED_LOOKS * 3 + PLAIN_LOOKS, lore.looks, FAVOUR["looks"])
    colour = _choose(rng, tuple(COLOURS), lore.colours, FAVOUR["colours"])
    size = rng.uniform(13.0, 18.0) * (1.25 if story.plain else 1.0)
    if look in ("bar", "car", "book", "bottle"):
        size *= 0.85
    actor = Actor(look, lore.name(look), colour, float(size), facing=int(rng.choice((-1, 1))))
    story.actors.append(actor)
    return actor


def _stand(actor: Actor, x: float, floor: float) -> None:
    """Put the actor on a level floor."""
    actor.start = (float(x), float(floor - actor.half[1] - 0.2))


def _enter(rng: np.random.Generator, actor: Actor, speed: tuple[float, float]) -> None:
    """Let the actor start at one side of the picture, or just outside of it, and move inwards."""
    side = int(rng.choice((-1, 1)))
    edge = rng.uniform(-20, 25)
    actor.start = (float(edge if side > 0 else SIZE - edge), actor.start[1])
    actor.velocity = (float(side * rng.uniform(*speed)), 0.0)
    actor.facing = side


def _drop(rng: np.random.Generator, story: Story) -> None:
    actor = _cast(rng, story)
    actor.start = (float(rng.uniform(35, 125)), float(rng.uniform(-30, 35)))
    actor.velocity = (float(rng.uniform(-25, 25)), 0.0)


def _roll(rng: np.random.Generator, story: Story) -> None:
    actor = _cast(rng, story, tuple(ROUND))
    _stand(actor, 0, story.ground)
    _enter(rng, actor, (35, 95))


def _slide(rng: np.random.Generator, story: Story) -> None:
    actor = _cast(rng, story, ("box", "bar", "book", "car", "cup"))
    _stand(actor, 0, story.ground)
    _enter(rng, actor, (70, 130))


def _collide(rng: np.random.Generator, story: Story) -> None:
    actor = _cast(rng, story, ("sphere", "ring", "box", "car"))
    _stand(actor, 0, story.ground)
    _enter(rng, actor, (95, 150))
    _stand(_cast(rng, story), SIZE / 2 + actor.facing * rng.uniform(-5, 25), story.ground)


def _ramp(rng: np.random.Generator, story: Story) -> None:
    actor = _cast(rng, story, ("sphere", "ring", "box", "car", "duck"))
    side = int(rng.choice((-1, 1)))
    top = (SIZE / 2 - side * 95, story.ground - 70)
    foot = (SIZE / 2 + side * float(rng.uniform(-10, 15)), story.ground)
    story.boards.append((*top, *foot))
    slope = math.atan2(foot[1] - top[1], side * (foot[0] - top[0]))
    along, reach = rng.uniform(0.2, 0.4), max(actor.half) + 1.5
    x, y = (top[k] + along * (foot[k] - top[k]) for k in (0, 1))
    actor.start = (float(x + side * math.sin(slope) * reach), float(y - math.cos(slope) * reach))
    actor.facing = side


def _ledge(rng: np.random.Generator, story: Story) -> None:
    actor = _cast(rng, story, ("sphere", "ring", "cup", "bottle", "duck", "box"))
    side, height = int(rng.choice((-1, 1))), float(rng.uniform(62, 78))
    edge = SIZE / 2 - side * rng.uniform(0, 25)
    story.boards.append((float(edge - side * 110), height, float(edge), height))
    _stand(actor, edge - side * rng.uniform(28, 50), height)
    actor.velocity = (float(side * rng.uniform(40, 75)), 0.0)
    actor.facing = side


def _topple(rng: np.random.Generator, story: Story) -> None:
    striker = _cast(rng, story, ("sphere", "ring", "car"))
    _stand(striker, 0, story.ground)
    _enter(rng, striker, (120, 170))
    floor, x = story.ground, SIZE / 2 + striker.facing * rng.uniform(0, 20)
    look = str(rng.choice(("box", "cup", "book")))
    for _ in range(rng.integers(2, 5)):
        block = _cast(rng, story, (look,))
        block.size *= 0.75
        _stand(block, x + rng.uniform(-1.5, 1.5), floor)
        floor -= 2 * block.half[1] + 0.2


def _walk(rng: np.random.Generator, story: Story) -> None:
    actor = _cast(rng, story, CREATURES)
    _stand(actor, 0, story.ground)
    _enter(rng, actor, (25, 60))
    if rng.random() < 0.5:
        _stand(_cast(rng, story), SIZE / 2 + actor.facing * rng.uniform(5, 35), story.ground)


def _jump(rng: np.random.Generator, story: Story) -> None:
    actor = _cast(rng, story, ("cat", "dog", "robot", "man", "woman"))
    _stand(actor, rng.uniform(40, 120), story.ground)
    actor.velocity = (float(actor.facing * rng.uniform(5, 30)), float(-rng.uniform(110, 150)))


def _fly(rng: np.random.Generator, story: Story) -> None:
    actor = _cast(rng, story, ("bird",))
    actor.start = (0.0, float(rng.uniform(35, 75)))
    _enter(rng, actor, (40, 85))


_SETUPS = {
    "drop": _drop, "roll": _roll, "slide": _slide, "collide": _collide, "ramp": _ramp, "ledge": _ledge,
    "topple": _topple, "walk": _walk, "jump": _jump, "fly": _fly,
}  # fmt: skip


def _bystanders(rng: np.random.Generator, story: Story) -> None:
    """Add up to two actors that stand still, where there is room; mostly things, sometimes a creature."""
    for _ in range(rng.choice(3, p=(0.3, 0.45, 0.25))):
        taken = [(actor.start[0], actor.half[0]) for actor in story.actors]
        actor = _cast(rng, story, CREATURES if rng.random() < 0.3 else None)
        for x in rng.uniform(15, SIZE - 15, 12):
            clear = all(abs(x - other) > wide + actor.half[0] + 3 for other, wide in taken)
            if clear and not any(min(b[0], b[2]) - 12 < x < max(b[0], b[2]) + 12 for b in story.boards):
                _stand(actor, float(x), story.ground)
                break
        else:
            story.actors.remove(actor)


def _run(story: Story) -> None:
    """Run the physics, and record the positions of the actors and their contacts."""
    space = pymunk.Space()
    space.gravity = (0.0, _GRAVITY)
    boards = [(-300.0, story.ground, SIZE + 300.0, story.ground), *story.boards]
    for x0, y0, x1, y1 in boards:
        board = pymunk.Segment(space.static_body, (x0, y0 + 2), (x1, y1 + 2), 2.0)
        board.friction, board.elasticity = 0.6, 0.9
        space.add(board)
    bodies = [_body(space, actor) for actor in story.actors]
    numbers = {id(body): number for number, body in enumerate(bodies)}
    now = 0

    def met(arbiter: pymunk.Arbiter, space: pymunk.Space, data: object) -> None:
        slow, fast = sorted(arbiter.bodies, key=lambda body: abs(body.velocity))
        closing = abs(float((fast.velocity - slow.velocity).dot(arbiter.normal)))
        if closing > 15:
            story.contacts.append(Contact(now, numbers[id(fast)], numbers[id(slow)], closing))

    space.on_collision(1, 1, begin=met)
    for now in range(FRAMES):
        for actor, body in zip(story.actors, bodies, strict=True):
            actor.x[now], actor.y[now] = body.position
            actor.angle[now] = body.angle
        for _ in range(_STEPS):
            for actor, body in zip(story.actors, bodies, strict=True):
                _steer(actor, body)
            space.step(1.0 / (FPS * _STEPS))


def _body(space: pymunk.Space, actor: Actor) -> pymunk.Body:
    wide, high = actor.half
    mass = wide * high / 100.0
    if actor.look in ROUND:
        moment = pymunk.moment_for_circle(mass, 0, actor.size)
        body = pymunk.Body(mass, moment)
        shape: pymunk.Shape = pymunk.Circle(body, actor.size)
    else:
        upright = actor.creature
        body = pymunk.Body(mass, math.inf if upright else pymunk.moment_for_box(mass, (2 * wide, 2 * high)))
        corners = [(-wide, high), (wide, high)]
        corners += [(0.0, -high)] if actor.look == "cone" else [(wide, -high), (-wide, -high)]
        shape = pymunk.Poly(body, corners)
    shape.elasticity = _ELASTIC.get(actor.look, 0.25)
    shape.friction = 0.12 if actor.look == "car" else 0.55
    shape.collision_type = 1
    body.position = actor.start
    body.velocity = actor.velocity
    if actor.look in ROUND and actor.velocity[1] == 0 and actor.start[1] > 40:
        body.angular_velocity = actor.velocity[0] / actor.size
    space.add(body, shape)
    return body


def _steer(actor: Actor, body: pymunk.Body) -> None:
    """Keep the pace of a creature and the height of a flying bird; leave things to the physics."""
    if not actor.creature or actor.velocity == (0.0, 0.0):
        return
    flying = actor.look == "bird" and actor.start[1] < 100
    if flying:
        body.velocity = (actor.velocity[0], 12.0 * math.sin(0.06 * body.position.x))
    elif actor.velocity[1] == 0.0:
        body.velocity = (actor.velocity[0], body.velocity.y)
