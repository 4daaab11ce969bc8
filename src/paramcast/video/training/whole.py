"""A collection without its broken clips, for those who have ten thousand downloads."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.video.data.collection import Collection, CollectionError, Problem
from paramcast.video.training.model import TrunkSettings, feature_store


def whole_collection(data: Path, settings: TrunkSettings) -> Collection:
    """Open a collection and leave out, with a line on stderr for each, what cannot be used.

    Every clip is read and encoded once, as the run will need it; later it comes from the cache.

    Args:
        data: The collection's folder.
        settings: Of the run.

    Raises:
        CollectionError: Nothing can be used.
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
