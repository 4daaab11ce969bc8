"""`python -m paramcast.methods.mm_adapter`: the benchmark of the Multi-Modal Adapter."""

from __future__ import annotations

from pathlib import Path

import click
import torch
from tqdm import tqdm

from paramcast.data.collection import Collection
from paramcast.figures import write_figures
from paramcast.methods.commandline import json_option, run
from paramcast.methods.mm_adapter.baselines import METHODS
from paramcast.methods.mm_adapter.benchmark import SHOTS, measure
from paramcast.methods.mm_adapter.embedding import embed_task
from paramcast.training.model import TrainedModel


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--model", required=True, type=click.Path(path_type=Path), help="A model trained for retrieval."
)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A collection.")
@click.option(
    "--label", default="category", show_default=True, help="What is classified: category, equipment, ..."
)
@click.option("--shots", multiple=True, type=click.IntRange(1), default=SHOTS, show_default=True)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Draws of the shots.")
@click.option(
    "--split",
    default="ceil",
    show_default=True,
    type=click.Choice(["ceil", "floor"]),
    help="How half of the classes is rounded to base classes.",
)
@json_option
def command(
    model: Path,
    data: Path,
    label: str,
    shots: tuple[int, ...],
    seeds: int,
    split: str,
    json_file: Path | None,
) -> None:
    """Few-shot accuracy on base and new classes, against zero-shot, probes and other adapters."""
    torch.set_num_threads(1)
    task = embed_task(TrainedModel.load(model), Collection.open(data), label)
    with tqdm(total=len(shots) * seeds * len(METHODS), unit="fit", disable=None) as bar:
        rows = measure(task, shots, seeds, "floor" if split == "floor" else "ceil", bar.update)
    for row in rows:
        figures = "  ".join(
            f"{key} {'-' if row[key] is None else format(row[key], '.2f'):>6}"
            for key in ("base", "new", "harmonic")
        )
        click.echo(f"{row['shots']:3} shots  {row['method']:34}  {figures}")
    if json_file:
        typed = f"python -m paramcast.methods.mm_adapter --model MODEL --data {data.name} --label {label}"
        typed += "".join(f" --shots {count}" for count in shots) + f" --seeds {seeds} --split {split}"
        sizes = {"classes": len(task.names), "pool": len(task.pool), "test": len(task.test)}
        write_figures(json_file, typed, range(seeds), [{**row, **sizes} for row in rows])


if __name__ == "__main__":
    run(command)
