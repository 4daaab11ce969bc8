"""Search a personal collection of videos by text on the device, before and after adaptation.

A base model and its adaptors are trained on one collection. The device has another collection, whose videos
need no captions. Both are generated where no folder is given. Frames stay on the device; the script prints
how many bytes the device sends and receives.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from paramcast.device import DeviceRuntime
from paramcast.server import Server
from paramcast.video.data.collection import Collection
from paramcast.video.data.frames import read_frames
from paramcast.video.training.artifact import export_artifact
from paramcast.video.training.pipeline import TrainingOptions, train
from paramcast.video.world import make_world


def opened(folder: Path | None, scratch: Path, name: str, clips: int, seed: int) -> Collection:
    """Open the user's collection, or generate one."""
    if folder is None:
        folder = scratch / name
        make_world(folder, clips=clips, seed=seed)
    return Collection.open(folder)


def main() -> None:
    """Train, export, index, adapt, search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=Path, help="collection with captions (default: a generated one)")
    parser.add_argument("--videos", type=Path, help="collection to search (default: a generated one)")
    parser.add_argument("--search", nargs="+", help="texts (default: captions of three of the videos)")
    parser.add_argument("--seed", type=int, default=0, help="of every random draw (default: 0)")
    parser.add_argument("--clips", type=int, default=300, help="of the generated training set (default: 300)")
    parser.add_argument("--steps", type=int, default=100, help="of each adaptor (default: 100)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        known = opened(asked.train, scratch, "known", asked.clips, asked.seed)
        own = opened(asked.videos, scratch, "own", 40, asked.seed + 1)
        devices = min(200, max(5, len(known.clips) // 15))
        options = TrainingOptions(
            "retrieval", seed=asked.seed, devices=devices, frames=4, adaptor_steps=asked.steps
        )
        model = train(known, scratch / "model", options)
        artifact = export_artifact(model, scratch / "artifact")
        server = Server(artifact, key=scratch / "signing.key")
        device = DeviceRuntime.load(artifact, "home", public_key=server.public_key)
        for clip in own.clips:
            device.index(clip.id, read_frames(clip, 4))
        for clip in own.clips[:8]:  # clips that the user has seen, and the queries for them
            device.observe(read_frames(clip, 4), clip.captions[:1])
        texts = asked.search or [clip.captions[0] for clip in own.clips[-3:]]
        before = {text: device.retrieve(text, 3) for text in texts}
        sent = device.request()
        received = server.adapt(sent.encode())
        device.apply(received)
        print(f"{len(sent.encode()):,} bytes up, {len(received):,} down; of {len(own.clips)} videos:")
        for text in texts:
            print(f"\n{text}")
            for name, hits in (("base", before[text]), ("own", device.retrieve(text, 3))):
                found = ", ".join(f"{hit.clip_id} ({hit.score:.2f})" for hit in hits)
                print(f"  {name:5s} {found}")


if __name__ == "__main__":
    main()
