"""Render a story: backdrop, boards, shadows, lit sprites and a little sensor noise."""

from __future__ import annotations

import math

import cv2
import numpy as np

from paramcast.video.world.backdrops import backdrop
from paramcast.video.world.physics import FPS, FRAMES, SIZE, Actor, Story
from paramcast.video.world.sprites import SCALE, Sprite, body_colour, draw
from paramcast.video.world.textures import wood

_NOISE = 0.006  # standard deviation, as a share of a white pixel


def render(rng: np.random.Generator, story: Story) -> np.ndarray:
    """Draw every frame of a story: (FRAMES, SIZE, SIZE, 3) uint8 RGB."""
    scene, light = backdrop(rng, story.scene, story.plain, story.ground)
    _paint_boards(rng, scene, story)
    towards = _light_direction(rng)
    players = [_Player(rng, actor, light, towards) for actor in story.actors]
    noise = rng.standard_normal((SIZE, SIZE, 3), dtype=np.float32) * np.float32(_NOISE)
    frames = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    shifts = rng.integers(0, SIZE, (FRAMES, 2))
    for now in range(FRAMES):
        picture = scene.copy()
        for player in players:
            player.shade_floor(picture, now, story)
        for player in players:
            player.show(picture, now)
        picture += np.roll(noise, shifts[now], axis=(0, 1))
        frames[now] = np.clip(picture, 0.0, 1.0) * 255.0 + 0.5
    return frames


def _light_direction(rng: np.random.Generator) -> np.ndarray:
    """Draw a unit vector (3,) float32 towards a light that is above the actors and a little in front."""
    towards = np.array([rng.uniform(-0.6, 0.6), -0.75, 0.55], np.float32)
    return np.asarray(towards / np.linalg.norm(towards), np.float32)


class _Player:
    """An actor with its sprites, ready to be drawn."""

    def __init__(
        self, rng: np.random.Generator, actor: Actor, light: np.ndarray, towards: np.ndarray
    ) -> None:
        self.actor, self.light, self.towards = actor, light, towards
        self.poses = draw(rng, actor.look, actor.size, body_colour(rng, actor.colour), actor.facing)
        self.seen: tuple[tuple[float, ...], np.ndarray] | None = None

    def show(self, picture: np.ndarray, now: int) -> None:
        """Draw the lit sprite over the picture."""
        x, y, angle = float(self.actor.x[now]), float(self.actor.y[now]), float(self.actor.angle[now])
        reach = math.ceil(self.poses[0].middle / SCALE) + 1
        left, top = math.floor(x) - reach, math.floor(y) - reach
        side = 2 * reach + 1
        rows = slice(max(0, top), min(SIZE, top + side))
        columns = slice(max(0, left), min(SIZE, left + side))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        patch = self._lit(self._pose(now), x - left, y - top, angle, side)
        patch = patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        inside = rows, columns
        picture[inside] = picture[inside] * (1.0 - patch[..., 3:]) + patch[..., :3]

    def shade_floor(self, picture: np.ndarray, now: int, story: Story) -> None:
        """Draw the shadow on the surface below: sharp and dark if it is near, wide and faint if it is far."""
        x, y = float(self.actor.x[now]), float(self.actor.y[now])
        wide, high = self.actor.half
        floor = story.ground
        for x0, y0, x1, y1 in story.boards:
            if min(x0, x1) < x < max(x0, x1):
                floor = min(floor, y0 + (y1 - y0) * (x - x0) / (x1 - x0))
        height = max(0.0, floor - y - high)
        soft = 1.0 + height / 40.0
        middle = x - self.towards[0] * height * 0.5, floor + 3.0
        axes = wide * 1.15 * soft, 4.0 * soft
        top, bottom = max(0, int(middle[1] - 2.5 * axes[1])), min(SIZE, int(middle[1] + 2.5 * axes[1]) + 1)
        across = ((np.arange(SIZE, dtype=np.float32) - middle[0]) / axes[0]) ** 2
        down = ((np.arange(top, bottom, dtype=np.float32) - middle[1]) / axes[1]) ** 2
        dark = 0.55 / soft * np.exp(-(down[:, None] + across[None]))
        picture[top:bottom] *= 1.0 - dark[..., None]

    def _pose(self, now: int) -> Sprite:
        """Return the sprite of this frame; creatures alternate their poses while they move."""
        speed = abs(float(self.actor.x[now] - self.actor.x[max(0, now - 1)])) * FPS
        step = now // 2 if len(self.poses) > 1 and speed > 8 else 0
        return self.poses[step % len(self.poses)]

    def _lit(self, sprite: Sprite, x: float, y: float, angle: float, side: int) -> np.ndarray:
        """Light a sprite centered at (x, y): (side, side, 4) float32, color times coverage, coverage."""
        state = (id(sprite), round(x, 2), round(y, 2), round(angle, 3))
        if self.seen is not None and self.seen[0] == state:
            return self.seen[1]
        cos, sin = math.cos(angle), math.sin(angle)
        turn = np.array([[cos, sin], [-sin, cos]]) * SCALE  # from the frame back to the sprite
        warp = np.column_stack([turn, sprite.middle - turn @ (x, y)])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        paint = cv2.warpAffine(sprite.paint, warp, (side, side), flags=flags)
        normals = cv2.warpAffine(sprite.normals, warp, (side, side), flags=flags)
        x_light, y_light, z_light = self.towards
        local = np.array((cos * x_light + sin * y_light, cos * y_light - sin * x_light, z_light), np.float32)
        facing = np.clip(normals @ local, 0.0, 1.0)[..., None]
        halfway = local + np.array((0, 0, 1), np.float32)
        shine = np.clip(normals @ (halfway / np.linalg.norm(halfway)), 0.0, 1.0)[..., None]
        colour = paint[..., :3] * (0.42 + 0.72 * facing) + 0.22 * shine**24 * paint[..., 3:]
        patch = np.concatenate([colour * self.light, paint[..., 3:]], axis=2)
        self.seen = state, patch
        return patch


def _paint_boards(rng: np.random.Generator, scene: np.ndarray, story: Story) -> None:
    """Draw planks for ramps and ledges, with a shadow under them, into the scene."""
    if not story.boards:
        return
    plank = wood((0.36, 0.24, 0.14), (0.62, 0.45, 0.28), 1)(rng, SIZE, SIZE)
    for x0, y0, x1, y1 in story.boards:
        edge = np.array([(x0, y0), (x1, y1), (x1, y1 + 6), (x0, y0 + 6)], np.float32)
        shade = np.zeros((SIZE, SIZE), np.float32)
        cv2.fillPoly(shade, [np.round(edge + np.array([0, 8])).astype(np.int32)], 1.0)
        scene *= 1.0 - 0.35 * cv2.GaussianBlur(shade, (0, 0), 4.0)[..., None]
        mask = np.zeros((SIZE, SIZE), np.uint8)
        cv2.fillPoly(mask, [np.round(edge * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        cover = mask[..., None].astype(np.float32) / 255.0
        scene *= 1.0 - cover
        scene += plank * cover
