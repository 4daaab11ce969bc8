"""`paramcast data`: look after collections."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from paramcast import __version__
from paramcast.files import write_json

SHOWN_CATEGORIES = 10


@click.group()
def command() -> None:
    """Collections: folders with a clips.jsonl."""


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write what was found to this file."
)
def check(folder: Path, json_path: Path | None) -> None:
    """Decode every clip of the collection in DIR and list all that is wrong: exit code 2 if anything is."""
    from paramcast.video.data.check import inspect_collection

    clips, problems = inspect_collection(folder)
    summary = {
        "clips": len(clips),
        "frames": sum(len(clip.frames) for clip in clips),
        "videos": sum(clip.video is not None for clip in clips),
        "questions": sum(len(clip.qa) for clip in clips),
        "captions": sum(len(clip.captions) + len(clip.frame_captions) for clip in clips),
        "categories": dict(
            Counter(clip.category for clip in clips if clip.category is not None).most_common()
        ),
    }
    for problem in problems:
        click.echo(str(problem))
    click.echo(_sentence(summary, len(problems)))
    if json_path:
        found = [{"line": each.line, "id": each.id, "message": each.message} for each in problems]
        figures = {"command": "data check", "version": __version__, "collection": folder.resolve().name}
        write_json(json_path, {**figures, **summary, "problems": found})
    sys.exit(2 if problems else 0)


def _sentence(summary: dict[str, Any], problems: int) -> str:
    counts = ", ".join(
        f"{summary[key]} {key}" for key in ("clips", "frames", "videos", "questions", "captions")
    )
    categories = [f"{name} {count}" for name, count in summary["categories"].items()]
    shown = ", ".join(categories[:SHOWN_CATEGORIES]) + (", ..." if len(categories) > SHOWN_CATEGORIES else "")
    return (
        f"{counts}, {len(categories)} categories{f' ({shown})' if shown else ''}: {problems or 'no'} problems"
    )
