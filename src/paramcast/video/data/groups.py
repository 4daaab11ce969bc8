"""Which clips are of one video: they must not lie on both sides of a split."""

from __future__ import annotations

import os
from collections.abc import Iterable

from paramcast.video.data.clip import Clip


def groups(clips: Iterable[Clip]) -> dict[str, str]:
    """Name for each clip what it is cut from.

    Clips are of one group that name the same `source`, or share a file: lines for each question of a video,
    or with other `start` and `end`. A clip that shares nothing is a group by itself, named by its id.

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
    """The files of a clip, however they are written; links count as what they lead to.

    Names are relative to the collection where they can be: it may move.
    """
    root = os.path.realpath(clip.root)
    found = [os.path.realpath(path) for path in clip.paths]
    return [os.path.relpath(file, root) if file.startswith(root + os.sep) else file for file in found]
