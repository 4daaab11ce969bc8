"""`paramcast data`: check and import collections."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from paramcast import __version__
from paramcast.errors import InputError
from paramcast.files import write_json

SHOWN_CATEGORIES = 10


@click.group()
def command() -> None:
    """Check and import collections (folders with a clips.jsonl)."""


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--write",
    "written",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the lines of clips without problems to this file.",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the counts and problems to this file."
)
def check(folder: Path, written: Path | None, json_path: Path | None) -> None:
    """Decode every clip of the collection in DIR and list all problems; the exit code is 2 if there are any.

    Notes report facts that are no problems but may surprise: keys that are not used, and different answers
    that count as the same answer.
    """
    from paramcast.video.data.check import inspect_collection, write_right
    from paramcast.video.data.notes import notes

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
    summary["splits"] = dict(Counter(clip.split for clip in clips if clip.split is not None).most_common())
    for problem in problems:
        click.echo(str(problem))
    noted = notes(clips)
    for note in noted:
        click.echo(f"note: {note}")
    click.echo(_sentence(summary, len(problems), len(noted)))
    if written:
        kept = write_right(folder, problems, written)
        click.echo(f"{written}: the {kept} lines without problems")
    if json_path:
        found = [{"line": each.line, "id": each.id, "message": each.message} for each in problems]
        figures = {"command": "data check", "version": __version__, "collection": folder.resolve().name}
        write_json(json_path, {**figures, **summary, "problems": found, "notes": noted})
    sys.exit(2 if problems else 0)


def _sentence(summary: dict[str, Any], problems: int, notes: int) -> str:
    counts = ", ".join(
        _number(summary[key], key[:-1], key) for key in ("clips", "frames", "videos", "questions", "captions")
    )
    categories = [f"{count} of {name!r}" for name, count in summary["categories"].items()]
    shown = ", ".join(categories[:SHOWN_CATEGORIES]) + (", ..." if len(categories) > SHOWN_CATEGORIES else "")
    kinds = f"{_number(len(categories), 'category', 'categories')}{f' ({shown})' if shown else ''}"
    splits = "".join(f", {count} for {split}" for split, count in summary["splits"].items())
    found = "no problems" if not problems else _number(problems, "problem", "problems")
    noted = f", {_number(notes, 'note', 'notes')}" if notes else ""
    return f"{counts}, {kinds}{splits}: {found}{noted}"


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


IMPORTS = (
    "msrvtt-qa",
    "msvd-qa",
    "tgif-qa",
    "next-qa",
    "activitynet-qa",
    "didemo",
    "youcook2",
    "lsmdc",
    "subtitles",
    "folder",
    "table",
    "webdataset",
    "huggingface",
)


@command.command(name="import")
@click.argument("format_", metavar="FORMAT", type=click.Choice(IMPORTS))
@click.argument("source")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the new collection.",
)
@click.option(
    "--videos",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the video files; they are not moved.  [default: SOURCE, or beside it]",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="KEY=NAME[,NAME]",
    help="Columns of a table for a key, such as captions=sentence or options=a0,a1,a2; may be repeated.",
)
def import_(format_: str, source: str, out: Path, videos: Path | None, columns: tuple[str, ...]) -> None:
    """Make a collection from other data. SOURCE is the folder, the file or the name of the data.

    FORMAT is one of these. Question sets: msrvtt-qa, msvd-qa, tgif-qa, next-qa, activitynet-qa. Moments of
    long videos: didemo, youcook2, lsmdc, subtitles (SRT, WebVTT). Others: folder (of videos), table (CSV,
    TSV, Parquet), webdataset (shards), huggingface (a data set with a video column).
    """
    from paramcast.video.imports import FORMATS, Job, write_records

    if (out / "clips.jsonl").exists():
        raise InputError(f"{out} already holds a collection; choose another folder")
    path = Path(source)
    given = dict(_column(each) for each in columns)
    job = Job(source, videos or (path if path.is_dir() else path.parent), out, given)
    existed = out.exists()
    try:
        kept = write_records(job, FORMATS[format_](job))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{source} does not have the known form of format {format_} ({what})") from error
    finally:
        if not existed and out.exists() and not (out / "clips.jsonl").exists():
            shutil.rmtree(out)  # a failed import leaves no folder behind
    click.echo(f"{out}: kept {', '.join(f'{count} {what}' for what, count in kept.items())}")
    for what, count in job.lost.most_common():
        click.echo(f"lost: {count} {what}")
    click.echo(f"next: paramcast data check {out}")


def _column(given: str) -> tuple[str, tuple[str, ...]]:
    from paramcast.video.imports.tables import KEYS

    key, _, names = given.partition("=")
    if key not in KEYS or not names:
        raise InputError(f"--column {given}: write KEY=NAME, with KEY one of {', '.join(KEYS)}")
    return key, tuple(names.split(","))
