"""Natural-looking surfaces from fractal noise: wood, grass, stone, cloth, sand, bricks, sky.

Each texture is an (H, W, 3) float32 RGB picture in [0, 1]. It depends on the state of the generator.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

RGB = tuple[float, float, float]
Texture = Callable[[np.random.Generator, int, int], np.ndarray]


def fractal(
    rng: np.random.Generator, height: int, width: int, cells: tuple[float, float] = (4, 4), octaves: int = 5
) -> np.ndarray:
    """Make noise with detail at every scale: (H, W) float32, mean about 0, mostly within [-1, 1].

    Args:
        rng: Generator of the noise.
        height: Number of rows.
        width: Number of columns.
        cells: Number of bumps of the coarsest octave, down and across; unequal numbers give a grain.
        octaves: Number of octaves. Each has twice the cells and 0.55 of the height of the octave before it.
    """
    total = np.zeros((height, width), np.float32)
    weight, scale = 1.0, 1.0
    for _ in range(octaves):
        grid = (min(height, int(cells[0] * scale) + 2), min(width, int(cells[1] * scale) + 2))
        layer = rng.standard_normal(grid, dtype=np.float32)
        total += weight * cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC)
        weight, scale = weight * 0.55, scale * 2.0
    return total * np.float32(0.55)


def ramp(values: np.ndarray, dark: RGB, light: RGB) -> np.ndarray:
    """Map values to colors: `dark` at -1, `light` at 1."""
    share = np.clip(values * 0.5 + 0.5, 0.0, 1.0)[..., None]
    return np.asarray(
        np.array(dark, np.float32) * (1.0 - share) + np.array(light, np.float32) * share, np.float32
    )


def cloudy(dark: RGB, light: RGB, cells: tuple[float, float] = (4, 4), octaves: int = 5) -> Texture:
    """Make a surface of noise only; `cells` make it plaster, concrete, earth, snow, sand or brushed metal."""
    return lambda rng, height, width: ramp(fractal(rng, height, width, cells, octaves), dark, light)


def wood(dark: RGB, light: RGB, planks: int = 4) -> Texture:
    """Make horizontal boards; grain and tone differ between boards."""

    def make(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        warp = fractal(rng, height, width, (3, 1), 3)
        rows = np.arange(height, dtype=np.float32)[:, None] / height
        board = np.floor(rows * planks).astype(int)
        tone = rng.uniform(-0.35, 0.35, planks).astype(np.float32)[np.minimum(board, planks - 1)]
        grain = 0.35 * np.sin(55.0 * rows + 5.0 * warp) + 0.5 * fractal(rng, height, width, (24, 1.5), 3)
        picture = ramp(grain + tone, dark, light)
        seam = np.abs((rows * planks) % 1.0 - 0.5) > 0.5 - 0.8 * planks / height
        return np.asarray(picture * (1.0 - 0.45 * seam[..., None]), np.float32)

    return make


def weave(dark: RGB, light: RGB, pitch: float = 4.0) -> Texture:
    """Make cloth: crossing threads of `pitch` pixels, softly creased."""

    def make(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        rows, columns = np.mgrid[:height, :width].astype(np.float32) * np.float32(2 * np.pi / pitch)
        threads = 0.35 * np.sin(rows) * np.sin(columns)
        return ramp(threads + 0.6 * fractal(rng, height, width, (2, 3), 5), dark, light)

    return make


def bricks(stone: tuple[RGB, RGB], mortar: RGB, size: tuple[int, int], shifted: bool = True) -> Texture:
    """Make rows of stones or tiles of `size` (height, width) pixels; the tone differs between stones."""

    def make(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        rows, columns = np.mgrid[:height, :width]
        course = rows // size[0]
        columns = columns + (course % 2) * (size[1] // 2) * shifted
        tones = rng.uniform(-0.5, 0.5, (height // size[0] + 1, width // size[1] + 2)).astype(np.float32)
        tone = tones[course, columns // size[1]] + 0.5 * fractal(rng, height, width, (6, 6), 4)
        joint = ((rows % size[0] < 1.5) | (columns % size[1] < 1.5)).astype(np.float32)
        joint = cv2.GaussianBlur(joint, (0, 0), 0.6)[..., None]
        return np.asarray(
            ramp(tone, *stone) * (1.0 - joint) + np.array(mortar, np.float32) * joint, np.float32
        )

    return make


def grass(dark: RGB, light: RGB) -> Texture:
    """Make grass: upright blades in patches."""

    def make(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        blades = fractal(rng, height, width, (16, 60), 2)
        return ramp(0.6 * blades + 0.6 * fractal(rng, height, width, (3, 4), 3), dark, light)

    return make


def leaves(dark: RGB, light: RGB) -> Texture:
    """Make a hedge: lumps of leaves, lit from above."""

    def make(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        lumps = fractal(rng, height, width, (9, 9), 4)
        relief = lumps - np.roll(lumps, 2, axis=0)
        return ramp(0.9 * relief + 0.5 * lumps, dark, light)

    return make


def sky(zenith: RGB, horizon: RGB, cloud: float = 0.6) -> Texture:
    """Make a color gradient from the zenith down to the horizon, with clouds."""

    def make(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        down = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
        clear = ramp(np.broadcast_to(down, (height, width)), zenith, horizon)
        puffs = np.clip(fractal(rng, height, width, (4, 2), 5) - 0.15, 0.0, 1.0)[..., None] * cloud
        return clear + (np.float32(0.97) - clear) * puffs

    return make


def stripes(first: RGB, second: RGB, pitch: int = 14) -> Texture:
    """Make striped wallpaper."""

    def make(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        bands = np.sin(np.arange(width, dtype=np.float32) * np.float32(2 * np.pi / pitch)) * 4.0
        return ramp(np.clip(bands, -1, 1)[None] + 0.15 * fractal(rng, height, width), first, second)

    return make


def laid_flat(texture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Project a texture onto a floor that recedes from the viewer: (height, width, 3), far edge on top."""
    depth = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None]
    near = 0.35 + 0.65 * depth  # share of the texture's width that a row shows, inverted below
    across = (np.arange(width, dtype=np.float32)[None] / width - 0.5) / near * 0.6 + 0.5
    down = np.broadcast_to((1.0 - 0.35 / near) / 0.65, across.shape)
    maps = (across * (texture.shape[1] - 1), down * (texture.shape[0] - 1))
    columns, rows = (np.ascontiguousarray(part, np.float32) for part in maps)
    return cv2.remap(texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
