"""The demo world: a generated collection of short videos, made on first use, with no download.

Things and creatures move by real physics in eight scenes. More than half of the clips are close-ups before
backdrops that all scenes share: there, only a model that knows the device's scene knows what a thing is
called.
"""

from paramcast.video.world.make import demo_world, make_world

__all__ = ["demo_world", "make_world"]
