"""`paramcast ask`: answer questions about one video."""

from __future__ import annotations

from pathlib import Path

import click

from paramcast.cli.common import FILE, FOLDER
from paramcast.device import DeviceRuntime
from paramcast.errors import InputError


@click.command(name="ask")
@click.option("--bundle", required=True, type=FOLDER, help="Artifact that `paramcast export` wrote.")
@click.option("--video", required=True, type=FILE, help="A video file.")
@click.option("--start", type=click.FloatRange(0), help="Seconds; use only the frames from there.")
@click.option(
    "--end", type=click.FloatRange(0, min_open=True), help="Seconds; use only the frames until then."
)
@click.option(
    "--option",
    "options",
    multiple=True,
    help="An answer to choose from, for task choice; may be repeated.",
)
@click.argument("questions", nargs=-1, required=True)
def command(
    bundle: Path,
    video: Path,
    start: float | None,
    end: float | None,
    options: tuple[str, ...],
    questions: tuple[str, ...],
) -> None:
    """Answer QUESTIONS, in English, about a video or a part of it, with the base model of a bundle.

    A bundle of task qa answers with one of the answers that it was trained on. Each question is cut after 64
    tokens.
    """
    from paramcast.video.data.frames import read_clip

    runtime = DeviceRuntime.load(bundle, "ask")
    task = runtime.bundle.task
    if task == "retrieval":
        raise InputError(f"{bundle} searches clips by a sentence; use: paramcast search --bundle {bundle}")
    if task == "choice" and not options:
        raise InputError(f"{bundle} chooses among given answers; add: --option ANSWER --option ANSWER")
    if task == "qa" and options:
        raise InputError(f"{bundle} answers from its own list of answers (task qa); leave out --option")
    frames = read_clip(video, runtime.bundle.frames, runtime.bundle.sampling, start=start, end=end)
    if task == "choice":
        answers = runtime.choose(frames, list(questions), [list(options)] * len(questions))
    else:
        answers = runtime.answer(frames, list(questions))
    for question, answer in zip(questions, answers, strict=True):
        click.echo(f"{question} {answer.text} ({100 * answer.probability:.0f} %)")
