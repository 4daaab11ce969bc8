"""`python -m experiments mm_adapter`: the benchmark of the Multi-Modal Adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
import torch
from tqdm import tqdm

from experiments.methods.mm_adapter.baselines import METHODS
from experiments.methods.mm_adapter.benchmark import FIGURES, SHOTS, measure
from experiments.methods.mm_adapter.embedding import PROMPT, embed_task
from experiments.methods.mm_adapter.encoders import DualEncoder, PretrainedEncoder, RetrievalEncoder
from experiments.methods.mm_adapter.fewshot import Rounding
from paramcast.methods.commandline import json_option
from paramcast.results import write_results
from paramcast.video.data.collection import Collection
from paramcast.video.training.model import TrainedModel


@click.command(name="mm_adapter", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The dual encoder: a folder that `paramcast train --task retrieval` wrote.",
)
@click.option("--encoder", help="Or a pretrained one: open_clip:ARCH:PRETRAINED.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A collection. Clips that MODEL was trained on take no part.",
)
@click.option(
    "--label", "labels", multiple=True, default=["category"], show_default=True, help="What is classified."
)
@click.option("--prompt", default=PROMPT, show_default=True, help="Text of a class; {} becomes its name.")
@click.option("--shots", multiple=True, type=click.IntRange(1), default=SHOTS, show_default=True)
@click.option(
    "--seeds", default=3, show_default=True, type=click.IntRange(1), help="Number of seeds from 0 on."
)
@click.option(
    "--split",
    default="ceil",
    show_default=True,
    type=click.Choice(get_args(Rounding)),
    help="How half of the number of classes is rounded to base classes.",
)
@click.option("--method", "names", multiple=True, type=click.Choice(list(METHODS)), help="Default: all.")
@json_option
def command(
    model: Path | None,
    encoder: str | None,
    data: Path,
    labels: tuple[str, ...],
    prompt: str,
    shots: tuple[int, ...],
    seeds: int,
    split: Rounding,
    names: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Measure few-shot accuracy on base and new classes, against zero-shot, a probe and other adapters.

    The classes of each --label, in alphabetic order, are halved into base and new ones; classes of fewer than
    8 clips are left out. A seed draws which half of the clips is scored, and the shots from the other half.
    """
    torch.set_num_threads(1)
    dual, collection = _encoder(model, encoder), Collection.open(data)
    methods = {name: METHODS[name] for name in names or METHODS}
    rows: list[dict[str, Any]] = []
    for label in labels:
        task = embed_task(dual, collection, label, prompt)
        fits = len(shots) * seeds * len(methods)
        with tqdm(total=fits, desc=label, unit="fit", disable=None) as bar:
            found = measure(task, shots, seeds, split, methods, bar.update)
        about = {"data": collection.name, "label": label, "classes": len(task.names), "clips": len(task.y)}
        rows += [about | row for row in found]
        click.echo(
            f"{collection.name}, {label}: {len(task.names)} classes, {len(task.y)} clips, by {dual.name}"
        )
        for row in found:
            click.echo(_line(row))
    if json_file:
        typed = "python -m experiments mm_adapter"
        typed += " --model MODEL" if model else f" --encoder {encoder}"
        typed += f" --data {data.resolve().name}" + "".join(f" --label {label}" for label in labels)
        typed += f' --prompt "{prompt}"' if prompt != PROMPT else ""
        typed += "".join(f" --shots {count}" for count in shots) + f" --seeds {seeds} --split {split}"
        typed += "".join(f' --method "{name}"' for name in names)
        write_results(json_file, typed, range(seeds), [{"encoder": dual.name} | row for row in rows])


def _encoder(model: Path | None, encoder: str | None) -> DualEncoder:
    if (model is None) == (encoder is None):
        raise click.UsageError("Say which dual encoder is used: give either --model or --encoder.")
    return RetrievalEncoder(TrainedModel.load(model)) if model else PretrainedEncoder(str(encoder))


def _line(row: dict[str, Any]) -> str:
    """Format means, each with its 95 % interval."""
    figures = (
        f"{key} {row[key]['mean']:5.1f} [{row[key]['low']:.1f}, {row[key]['high']:.1f}]"
        if row[key]
        else f"{key} -"
        for key in FIGURES
    )
    return f"{row['shots']:3} shots  {row['method']:32}  " + "  ".join(figures)
