"""Check a collection and report all its problems at once."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from paramcast.files import write_bytes
from paramcast.video.data.collection import (
    CLIPS_FILE,
    Clip,
    CollectionError,
    Problem,
    missing_files,
    read_lines,
)
from paramcast.video.data.frames import undecodable


def check_collection(path: Path | str) -> list[Problem]:
    """Find all problems of the collection in folder `path`, by line; decode every frame of every clip.

    Raises:
        CollectionError: `clips.jsonl` cannot be read, or it names no clip.
    """
    return inspect_collection(path)[1]


def inspect_collection(path: Path | str) -> tuple[list[Clip], list[Problem]]:
    """Return the clips with correct lines, and all problems; raises as `check_collection` does."""
    root = Path(path)
    clips: list[Clip] = []
    problems: list[Problem] = []
    for found in read_lines(root):
        if isinstance(found, Clip):
            clips.append(found)
        else:
            problems += found
    if not clips and not problems:
        raise CollectionError(root, f"{root / CLIPS_FILE} has no clips; write one JSON object per line")
    for clip in tqdm(clips, desc="decoding", unit="clip", disable=None):
        problems += missing_files(clip) or [Problem(clip.line, clip.id, fault) for fault in undecodable(clip)]
    return clips, sorted(problems, key=lambda problem: problem.line)


def write_right(path: Path | str, problems: list[Problem], target: Path) -> int:
    """Write the lines without a problem, of the collection in `path`, to `target`; return their number."""
    wrong = {problem.line for problem in problems}
    lines = (Path(path) / CLIPS_FILE).read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    right = [line for number, line in enumerate(lines, start=1) if number not in wrong and line.strip()]
    write_bytes(target, b"".join(line + b"\n" for line in right))
    return len(right)
