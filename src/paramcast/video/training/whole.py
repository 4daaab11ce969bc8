"""Opens a collection without its broken clips, for example one with ten thousand downloads."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.video.data.collection import Collection, CollectionError, Problem
from paramcast.video.training.model import TrunkSettings, feature_store


def whole_collection(data: Path, settings: TrunkSettings) -> Collection:
    """Open a collection without the clips that cannot be used; print a line on stderr for each of these.

    Every clip is read and encoded once, as the run needs it; later its features come from the cache.

    Args:
        data: The collection's folder.
        settings: Settings of the run.

    Raises:
        CollectionError: No clip can be used.
    """
    problems: list[Problem] = []
    collection = Collection.open(data, problems)
    for problem in problems:
        click.echo(f"left out: {problem}", err=True)
    while True:
        try:
            feature_store(collection, settings).clips([(clip.id, ()) for clip in collection.clips])
        except CollectionError as error:
            if error.problem is None or error.problem.id is None or len(collection.clips) == 1:
                raise
            click.echo(f"left out: {error.problem}", err=True)
            collection = collection.without([error.problem.id])
            continue
        return collection
