"""`paramcast search`: find videos by a sentence."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.common import FOLDER
from paramcast.device import DeviceRuntime
from paramcast.errors import InputError


@click.command(name="search", context_settings={"show_default": True})
@click.option(
    "--bundle", required=True, type=FOLDER, help="Artifact that `paramcast export` wrote, of task retrieval."
)
@click.option("--videos", required=True, type=FOLDER, help="A folder of videos, or a collection.")
@click.option("--top", default=5, type=click.IntRange(1), help="Number of videos to show.")
@click.argument("sentence")
def command(bundle: Path, videos: Path, top: int, sentence: str) -> None:
    """Find the videos that SENTENCE, in English, describes best. The score is a cosine; the highest is 1."""
    from paramcast.video.data.collection import CLIPS_FILE, Collection
    from paramcast.video.data.frames import read_clip, read_frames
    from paramcast.video.imports import Job

    runtime = DeviceRuntime.load(bundle, "search")
    if runtime.bundle.task != "retrieval":
        raise InputError(f"{bundle} is for task {runtime.bundle.task}; use: paramcast ask --bundle {bundle}")
    count, sampling = runtime.bundle.frames, runtime.bundle.sampling
    if (videos / CLIPS_FILE).exists():
        for clip in Collection.open(videos).clips:
            runtime.index(clip.id, read_frames(clip, count, sampling))
    else:
        found = Job("", videos, videos).all_videos()
        if not found:
            raise InputError(f"{videos} contains no video")
        for path in found:
            runtime.index(path.as_posix(), read_clip(videos / path, count, sampling))
    for hit in runtime.retrieve(sentence, top):
        click.echo(f"{hit.score:.3f} {hit.clip_id}")
