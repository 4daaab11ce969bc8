"""The demo world: a generated collection of short videos, made on first use, with no download.

Things and creatures move in eight scenes, simulated by rigid-body physics. More than half of the clips are
close-ups in front of backdrops that all scenes share. In these clips, a model must know the device's scene
to know the name of a thing.
"""

from paramcast.video.world.make import demo_world, make_world

__all__ = ["demo_world", "make_world"]
