"""Helpers of the importers' tests: put files somewhere, import them, and look at the collection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from paramcast.cli.data import command
from paramcast.video.data.check import check_collection
from paramcast.video.data.clip import Clip
from paramcast.video.data.collection import Collection


def put(root: Path, files: dict[str, bytes | str | Any]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding="utf-8")


def run(*words: object) -> Result:
    return CliRunner().invoke(command, ["import", *map(str, words)], catch_exceptions=True)


def imported(
    format_: str, root: Path, *options: object, source: object = None
) -> tuple[dict[str, Clip], str]:
    """The clips of what was made, which has no problem, and what the command said."""
    out = root.parent / "made"
    done = run(format_, source or root, "--out", out, *options)
    assert done.exit_code == 0, (done.output, done.exception)
    assert check_collection(out) == []
    return Collection.open(out).by_id, done.output
