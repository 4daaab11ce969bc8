"""Groups of clips that come from one video: a group must not be in two splits."""

from __future__ import annotations

import os
from collections.abc import Iterable

from paramcast.video.data.clip import Clip


def groups(clips: Iterable[Clip]) -> dict[str, str]:
    """Find the group of each clip: clips of one group come from the same video.

    Two clips are in one group if they name the same `source` or share a file. For example, a collection may
    have one line for each question of a video, or lines with different `start` and `end`. A clip that shares
    nothing is a group by itself, named by its id.

    Returns:
        Clip id -> name of its group, equal for clips of one group.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    keys: dict[str, list[str]] = {}
    for clip in clips:
        keys[clip.id] = [f"source {clip.source}"] if clip.source is not None else []
        keys[clip.id] += [f"file {file}" for file in _files(clip)]
        for key in keys[clip.id][1:]:
            parent[root(key)] = root(keys[clip.id][0])
    members: dict[str, list[str]] = {}
    for clip_id, own in keys.items():
        members.setdefault(root(own[0]), []).append(clip_id)
    return {
        clip_id: ids[0] if len(ids) == 1 else min(key for each in ids for key in keys[each])
        for ids in members.values()
        for clip_id in ids
    }


def _files(clip: Clip) -> list[str]:
    """Return the files of a clip in a form that can be compared; links are replaced by their targets.

    Names are relative to the collection where possible, because the folder may move.
    """
    root = os.path.realpath(clip.root)
    found = [os.path.realpath(path) for path in clip.paths]
    return [os.path.relpath(file, root) if file.startswith(root + os.sep) else file for file in found]
