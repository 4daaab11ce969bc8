"""A worker of `make_world`: python -m paramcast.video.world OUT SEED START STOP STEP.

It makes the clips of range(START, STOP, STEP). It prints each clip's line of `clips.jsonl` to the standard
output as soon as the video is written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2

from paramcast.video.world.make import make_clip


def main(out: str, seed: str, *bounds: str) -> None:
    """Make the clips of `range(*bounds)`."""
    cv2.setNumThreads(1)  # one process runs on each core already; more threads would only compete
    for number in range(*map(int, bounds)):
        print(json.dumps(make_clip(Path(out), int(seed), number)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
